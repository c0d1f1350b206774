"""DVLM: fine-tune Qwen3-VL for dense captioning, and sweep such fine-tunes."""

__version__ = "0.1.0"
