"""Group `model`: which Qwen3-VL, and how it is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.knob import at_least, check_paths, knob, one_of

DTYPES = ("float32", "bfloat16")
ATTENTION = ("sdpa", "flash_attention_2", "eager")


@dataclass
class ModelConfig:
    """Which Qwen3-VL, and how it is loaded."""

    model: str = knob("???", "local directory or hub id of the base model; `tiny` builds the embedded one", path=True)
    torch_dtype: str = knob("bfloat16", "dtype of frozen weights and of the compute; what trains is kept in float32")
    attn_impl: str = knob("sdpa", "attention: sdpa | flash_attention_2 (GPU) | eager")
    max_model_len: int = knob("${global_max_length}", "longest row the model sees", "tokens")

    def __post_init__(self) -> None:
        check_paths("model.", self)
        one_of("model.torch_dtype", self.torch_dtype, DTYPES)
        if self.attn_impl == "flex_attention":
            raise ValueError(
                "model.attn_impl=flex_attention is refused by transformers' Qwen3-VL; packed rows are cheap with sdpa "
                "here (attention runs segment by segment), and with flash_attention_2 on a GPU"
            )
        one_of("model.attn_impl", self.attn_impl, ATTENTION)
        at_least("model.max_model_len", self.max_model_len, 1)
        if self.attn_impl == "flash_attention_2" and self.torch_dtype == "float32":
            raise ValueError("model.attn_impl=flash_attention_2 computes in bfloat16, but model.torch_dtype is float32")
