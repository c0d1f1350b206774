"""Group `optim`: the optimizer, its learning rates, and their schedule."""

from __future__ import annotations

from dataclasses import dataclass, field

from dvlm.config.knob import at_least, knob, one_of, within

SCHEDULES = ("cosine_warmup_with_min_lr", "linear", "constant_with_warmup", "wsd")


@dataclass
class SchedulerKwargs:
    """Parameters of the schedule."""

    min_lr: float = knob(1e-6, "learning rate of the last step, but for the constant schedule; groups in proportion")
    decay_ratio: float | None = knob(
        None, "wsd: share of the steps after the warm-up, at the end, that fall; null: 0.1"
    )


@dataclass
class OptimConfig:
    """AdamW, its learning rates, and their schedule."""

    optimizer: str = knob("multimodal", "multimodal (each tower its own learning rate) | adamw (one for all)")
    learning_rate: float = knob(1e-4, "peak learning rate of the language model and of what has none of its own")
    vit_lr: float | None = knob(None, "peak learning rate of the vision trunk; null: learning_rate")
    aligner_lr: float | None = knob(None, "peak learning rate of the aligner; null: learning_rate")
    weight_decay: float = knob(0.1, "decoupled weight decay of matrices; vectors have none")
    adam_beta1: float = knob(0.9, "decay of the first moment")
    adam_beta2: float = knob(0.95, "decay of the second moment")
    adam_epsilon: float = knob(1e-8, "floor of the second moment's root")
    max_grad_norm: float | None = knob(1.0, "gradient norm above which gradients are scaled down; null: never")
    warmup_ratio: float = knob(0.1, "share of the steps with a rising learning rate")
    lr_scheduler_type: str = knob(
        "cosine_warmup_with_min_lr", "cosine_warmup_with_min_lr | linear | constant_with_warmup | wsd"
    )
    lr_scheduler_kwargs: SchedulerKwargs = field(default_factory=SchedulerKwargs)

    def __post_init__(self) -> None:
        one_of("optim.optimizer", self.optimizer, ("multimodal", "adamw"))
        one_of("optim.lr_scheduler_type", self.lr_scheduler_type, SCHEDULES)
        for name in ("learning_rate", "vit_lr", "aligner_lr", "adam_epsilon", "max_grad_norm"):
            at_least(f"optim.{name}", getattr(self, name), 0.0, above=True)
        at_least("optim.weight_decay", self.weight_decay, 0.0)
        within("optim.warmup_ratio", self.warmup_ratio, 0.0, 1.0)
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"optim.{name} is {getattr(self, name)}, expected a number from 0 to below 1")
        if not 0 <= self.lr_scheduler_kwargs.min_lr <= self.learning_rate:
            raise ValueError(
                f"optim.lr_scheduler_kwargs.min_lr is {self.lr_scheduler_kwargs.min_lr}, "
                f"expected a number from 0 to learning_rate ({self.learning_rate})"
            )
        within("optim.lr_scheduler_kwargs.decay_ratio", self.lr_scheduler_kwargs.decay_ratio, 0.0, 1.0)
        if self.lr_scheduler_kwargs.decay_ratio is not None and self.lr_scheduler_type != "wsd":
            raise ValueError(f"optim.lr_scheduler_kwargs.decay_ratio is for wsd, but it is {self.lr_scheduler_type}")
        if self.optimizer == "adamw" and (self.vit_lr or self.aligner_lr):
            raise ValueError("optim.vit_lr and aligner_lr need optim.optimizer=multimodal, but it is adamw")
