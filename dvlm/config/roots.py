"""The root of each verb's configuration: `conf/<verb>.yaml` fills it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dvlm.config.augmentation import AugmentationConfig
from dvlm.config.callbacks import CallbacksConfig
from dvlm.config.data import DataConfig
from dvlm.config.knob import at_least, group, knob
from dvlm.config.logger import LoggerConfig
from dvlm.config.model import ModelConfig
from dvlm.config.optim import OptimConfig
from dvlm.config.rlhf import RlhfConfig
from dvlm.config.trainer import TrainerConfig
from dvlm.config.tuner import TunerConfig


@dataclass
class TrainConfig:
    """`python -m dvlm.train`: everything of one run."""

    model: ModelConfig = group(ModelConfig)
    tuner: TunerConfig = group(TunerConfig)
    augmentation: AugmentationConfig = group(AugmentationConfig)
    rlhf: RlhfConfig = group(RlhfConfig)
    data: DataConfig = group(DataConfig)
    optim: OptimConfig = group(OptimConfig)
    trainer: TrainerConfig = group(TrainerConfig)
    logger: LoggerConfig = group(LoggerConfig)
    callbacks: CallbacksConfig = group(CallbacksConfig)
    global_max_length: int = knob(4096, "the one length knob: longest row, packs included", "tokens")
    seed: int = knob(17, "seed of pairing, modes, augmentation, adapters")
    debug: bool = knob(False, "two steps, verbose, the first sample decoded and drawn")
    resume_from: str | None = knob(None, "run or checkpoint directory to continue: weights, optimizer, position", path=True)
    cache_dir: str = knob("outputs/cache", "what can be made again: the tiny model, the demo set", path=True)

    def __post_init__(self) -> None:
        at_least("global_max_length", self.global_max_length, 16)
        at_least("seed", self.seed, 0)
        if self.model.max_model_len < self.global_max_length:
            raise ValueError(
                f"model.max_model_len is {self.model.max_model_len}, below global_max_length {self.global_max_length}; "
                "set global_max_length only"
            )
        if self.resume_from and self.tuner.resume_from_checkpoint:
            raise ValueError(
                "resume_from continues a run, tuner.resume_from_checkpoint starts one from earlier weights: give one"
            )
        towers_frozen = self.tuner.freeze_llm and self.tuner.freeze_vit and self.tuner.freeze_aligner
        if towers_frozen and not self.tuner.modules_to_save and not self.tuner.target_regex:
            raise ValueError("tuner freezes llm, vit and aligner: nothing would train; unfreeze one of them")

    def effective(self) -> TrainConfig:
        """With `debug`, the same run cut to two steps that log and validate; else itself."""
        if not self.debug:
            return self
        trainer = replace(self.trainer, max_steps=2, eval_steps=None, save_steps=None, logging_steps=1)
        return replace(self, trainer=trainer)


@dataclass
class ValidateConfig:
    """`python -m dvlm.validate`: read every record, list the bad ones."""

    data: DataConfig = group(DataConfig)
    cache_dir: str = knob("outputs/cache", "where the demo set is made", path=True)


@dataclass
class ExportConfig:
    """`python -m dvlm.export`: a checkpoint becomes a merged model."""

    checkpoint: str = knob("???", "checkpoint directory, or a run directory (then its best, else its last)", path=True)
    output: str = knob("???", "directory of the merged model", path=True)
    model: str | None = knob(None, "base model; null: the one that the checkpoint names", path=True)
    torch_dtype: str | None = knob(None, "dtype of the merged weights; null: the base's")
    overwrite: bool = knob(False, "replace an existing output directory")


ROOTS: dict[str, type] = {"train": TrainConfig, "validate": ValidateConfig, "export": ExportConfig}
