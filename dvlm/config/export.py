"""The root of `export`: which checkpoint becomes a model, and in which form."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dvlm.config.knob import check_paths, knob, one_of
from dvlm.config.model import DTYPES

QUANTIZED = ("int8", "int4")


@dataclass
class ExportConfig:
    """`python -m dvlm.export`: a checkpoint becomes a merged model."""

    checkpoint: str = knob("???", "checkpoint directory, or a run directory (then its best, else its last)", path=True)
    output: str = knob("???", "directory of the merged model", path=True)
    base_model: str | None = knob(None, "base model; null: the one that the checkpoint names", path=True)
    torch_dtype: str | None = knob(None, "dtype of the merged weights; null: the base's")
    max_shard_size: str = knob("5GB", "largest weight file, as a number with MB or GB")
    also_legacy_processor_files: bool = knob(True, "write the processor files that older tools look for, too")
    quantize: str | None = knob(
        None, "weights of the language model: int8 | int4 (compressed-tensors); null: in torch_dtype"
    )
    overwrite: bool = knob(False, "replace an existing output directory")

    def __post_init__(self) -> None:
        check_paths("", self)
        if self.torch_dtype is not None:
            one_of("torch_dtype", self.torch_dtype, DTYPES)
        if self.quantize is not None:
            one_of("quantize", self.quantize, QUANTIZED)
        if not re.fullmatch(r"[1-9]\d*(MB|GB)", self.max_shard_size):
            raise ValueError(f"max_shard_size is '{self.max_shard_size}', expected a number with MB or GB, such as 5GB")
