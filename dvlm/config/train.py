"""The root of `train`: everything of one run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dvlm.config.augmentation import AugmentationConfig
from dvlm.config.callbacks import CallbacksConfig
from dvlm.config.data import DataConfig
from dvlm.config.knob import at_least, check_paths, group, knob
from dvlm.config.logger import LoggerConfig
from dvlm.config.model import ModelConfig
from dvlm.config.optim import OptimConfig
from dvlm.config.rlhf import RlhfConfig
from dvlm.config.sweep import SweepConfig
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
    sweep: SweepConfig = group(SweepConfig)
    global_max_length: int = knob(4096, "the one length knob: longest row, packs included", "tokens")
    seed: int = knob(17, "seed of pairing, modes, augmentation, adapters")
    debug: bool = knob(False, "two steps, verbose, the first sample decoded and drawn")
    resume_from: str | None = knob(None, "run or checkpoint to continue: weights, optimizer, position", path=True)
    cache_dir: str = knob("outputs/cache", "what can be made again: the tiny model, the demo set", path=True)

    def __post_init__(self) -> None:
        check_paths("", self)
        if not (self.data.train_jsonl or self.data.sources):
            raise ValueError("data has neither train_jsonl nor sources; give data.train_jsonl=<file>")
        at_least("global_max_length", self.global_max_length, 16)
        at_least("seed", self.seed, 0)
        if self.model.max_model_len < self.global_max_length:
            raise ValueError(
                f"model.max_model_len is {self.model.max_model_len}, below global_max_length {self.global_max_length}; "
                "set global_max_length only"
            )
        ranks = self.trainer.devices * self.trainer.num_nodes
        if self.data.packs_per_step % ranks:
            raise ValueError(
                f"data.packs_per_step is {self.data.packs_per_step}, which {ranks} ranks (trainer.devices x "
                f"trainer.num_nodes) do not divide; set data.packs_per_step={ranks} or a multiple of it"
            )
        if self.trainer.early_stopping_patience and self.data.val_jsonl is None and self.data.demo is None:
            raise ValueError("trainer.early_stopping_patience needs validation records, but data.val_jsonl is null")
        if self.callbacks.guards.skips and (self.tuner.train_type == "adalora" or "zero" in self.trainer.strategy):
            raise ValueError(
                "callbacks.guards skips steps, but tuner=adalora and trainer=zero2 or zero3 use the gradients of each; "
                "set callbacks.guards.policy=stop and spike_policy=warn"
            )
        if self.trainer.strategy in ("fsdp", "zero2", "zero3"):
            self._check_spread()

    def _check_spread(self) -> None:
        """What does not work where weights or optimizer state are spread over ranks."""
        strategy, start = self.trainer.strategy, str(self.tuner.init_lora_weights)
        if self.rlhf.lmbda or self.rlhf.seq_kd:
            raise ValueError(f"rlhf.lmbda and rlhf.seq_kd write answers, which {strategy} cannot do; use trainer=ddp")
        if self.tuner.train_type == "adalora":
            raise ValueError(
                f"tuner.train_type=adalora cuts ranks of whole matrices, not under {strategy}; trainer=ddp"
            )
        if start.startswith(("pissa", "olora")) and strategy != "zero2":
            raise ValueError(
                f"tuner.init_lora_weights={start} is saved from whole weights, not {strategy}; trainer=ddp"
            )
        if self.rlhf.teacher_cache != "off" and self.rlhf.teacher_model == "base" and strategy != "zero2":
            raise ValueError(
                f"rlhf.teacher_cache lets a rank leave out the teacher's pass, which under trainer.strategy={strategy} "
                "the others need it for; set rlhf.teacher_cache=off, or use trainer=ddp"
            )

    def effective(self) -> TrainConfig:
        """With `debug`, the same run cut to two steps that log and validate; else itself."""
        if not self.debug:
            return self
        trainer = replace(
            self.trainer, max_steps=2, logging_steps=1, eval_steps=None, save_steps=None, early_stopping_patience=None
        )
        return replace(self, trainer=trainer)
