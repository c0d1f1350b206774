"""The sizes of the released Qwen3-VL models, so that arithmetic about them needs neither weights nor a network.

They are those of the `config.json` of each checkpoint; a test holds them to the published numbers of parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import Qwen3VLConfig

FAMILY = "Qwen/Qwen3-VL-{}-{}"
VARIANTS = ("Instruct", "Thinking")
TEXT: dict[str, dict[str, Any]] = {
    "2B": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
    "4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    "8B": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32},
}
SMALL_VISION = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
LARGE_VISION = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
VISION = {"2B": SMALL_VISION, "4B": SMALL_VISION, "8B": LARGE_VISION}
TIED = ("2B", "4B")
NAMES = {FAMILY.format(size, variant): size for size in TEXT for variant in VARIANTS}


def config(model: str) -> Qwen3VLConfig | None:
    """The configuration of a released model by its hub id; None for any other name, and for a directory."""
    from transformers import Qwen3VLConfig

    size = NAMES.get(model)
    if size is None or Path(model).is_dir():
        return None
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_interleaved": True, "mrope_section": [24, 20, 20]}
    text = {
        "vocab_size": 151936,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rope_parameters": rope,
        **TEXT[size],
    }
    vision = {
        "num_heads": 16,
        "num_position_embeddings": 2304,
        "out_hidden_size": TEXT[size]["hidden_size"],
        **VISION[size],
    }
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=size in TIED, dtype="bfloat16")
