"""The root of each verb's configuration: `conf/<verb>.yaml` fills it."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.caption import CaptionConfig
from dvlm.config.data import DataConfig
from dvlm.config.doctor import DoctorConfig
from dvlm.config.estimate import EstimateConfig
from dvlm.config.evaluate import EvaluateConfig
from dvlm.config.export import ExportConfig
from dvlm.config.knob import check_paths, group, knob
from dvlm.config.preview import PreviewConfig
from dvlm.config.replay import ReplayConfig
from dvlm.config.report import DashboardConfig, ReportConfig
from dvlm.config.stage_a import StageAConfig
from dvlm.config.stage_b import StageBConfig
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


ROOTS: dict[str, type] = {
    "caption": CaptionConfig,
    "stage_a": StageAConfig,
    "stage_b": StageBConfig,
    "train": TrainConfig,
    "validate": ValidateConfig,
    "preview": PreviewConfig,
    "teacher": TeacherConfig,
    "estimate": EstimateConfig,
    "doctor": DoctorConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "convert": ConvertConfig,
    "split": SplitConfig,
    "report": ReportConfig,
    "dashboard": DashboardConfig,
    "replay": ReplayConfig,
}
