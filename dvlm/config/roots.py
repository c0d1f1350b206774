"""The root of each verb's configuration: `conf/<verb>.yaml` fills it."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.caption import CaptionConfig
from dvlm.config.data import DataConfig
from dvlm.config.knob import check_paths, group, knob, one_of
from dvlm.config.model import DTYPES
from dvlm.config.preview import PreviewConfig
from dvlm.config.report import ReportConfig
from dvlm.config.teacher import TeacherConfig
from dvlm.config.tools import ConvertConfig, SplitConfig
from dvlm.config.train import TrainConfig


@dataclass
class ValidateConfig:
    """`python -m dvlm.validate`: read every record, list the bad ones."""

    data: DataConfig = group(DataConfig)
    cache_dir: str = knob("outputs/cache", "where the demo set is made", path=True)

    def __post_init__(self) -> None:
        check_paths("", self)


@dataclass
class ExportConfig:
    """`python -m dvlm.export`: a checkpoint becomes a merged model."""

    checkpoint: str = knob("???", "checkpoint directory, or a run directory (then its best, else its last)", path=True)
    output: str = knob("???", "directory of the merged model", path=True)
    base_model: str | None = knob(None, "base model; null: the one that the checkpoint names", path=True)
    torch_dtype: str | None = knob(None, "dtype of the merged weights; null: the base's")
    overwrite: bool = knob(False, "replace an existing output directory")

    def __post_init__(self) -> None:
        check_paths("", self)
        if self.torch_dtype is not None:
            one_of("torch_dtype", self.torch_dtype, DTYPES)


ROOTS: dict[str, type] = {
    "caption": CaptionConfig,
    "train": TrainConfig,
    "validate": ValidateConfig,
    "preview": PreviewConfig,
    "teacher": TeacherConfig,
    "export": ExportConfig,
    "convert": ConvertConfig,
    "split": SplitConfig,
    "report": ReportConfig,
}
