"""The configuration: one file a group, each knob with its meaning, unit, default and checks."""

from dvlm.config.augmentation import AugmentationConfig, OpConfig
from dvlm.config.callbacks import CallbacksConfig
from dvlm.config.caption import CaptionConfig
from dvlm.config.data import DataConfig, DemoConfig, SourceConfig
from dvlm.config.doctor import DoctorConfig
from dvlm.config.engine import EngineConfig
from dvlm.config.estimate import EstimateConfig
from dvlm.config.evaluate import EvaluateConfig
from dvlm.config.export import ExportConfig
from dvlm.config.guards import GuardsConfig
from dvlm.config.logger import LoggerConfig, WandbConfig
from dvlm.config.mission import MissionConfig
from dvlm.config.model import ModelConfig
from dvlm.config.optim import OptimConfig, SchedulerKwargs
from dvlm.config.preview import PreviewConfig
from dvlm.config.replay import ReplayConfig
from dvlm.config.report import DashboardConfig, ReportConfig
from dvlm.config.rlhf import RlhfConfig
from dvlm.config.roots import ValidateConfig
from dvlm.config.stage_a import StageAConfig
from dvlm.config.stage_b import StageBConfig
from dvlm.config.sweep import SweepConfig
from dvlm.config.teacher import TeacherConfig
from dvlm.config.tools import ConvertConfig, SplitConfig
from dvlm.config.train import TrainConfig
from dvlm.config.trainer import TrainerConfig
from dvlm.config.tuner import TunerConfig

__all__ = [
    "AugmentationConfig",
    "CallbacksConfig",
    "CaptionConfig",
    "ConvertConfig",
    "DashboardConfig",
    "DataConfig",
    "DemoConfig",
    "EngineConfig",
    "DoctorConfig",
    "EstimateConfig",
    "EvaluateConfig",
    "ExportConfig",
    "GuardsConfig",
    "LoggerConfig",
    "MissionConfig",
    "ModelConfig",
    "OpConfig",
    "OptimConfig",
    "PreviewConfig",
    "ReplayConfig",
    "ReportConfig",
    "RlhfConfig",
    "SchedulerKwargs",
    "SourceConfig",
    "StageAConfig",
    "StageBConfig",
    "SplitConfig",
    "SweepConfig",
    "TeacherConfig",
    "TrainConfig",
    "TrainerConfig",
    "TunerConfig",
    "ValidateConfig",
    "WandbConfig",
]
