"""Group `trainer`: how long, on what, and when to evaluate and save."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.knob import at_least, knob, one_of

STRATEGIES = ("auto", "ddp", "fsdp", "zero2", "zero3")


@dataclass
class TrainerConfig:
    """How long, on what, and when to evaluate and save. Steps are optimizer steps."""

    num_train_epochs: int = knob(1, "passes over the records, each paired anew", "epochs")
    max_steps: int | None = knob(None, "stop after this many steps; null: all planned", "steps")
    accelerator: str = knob("auto", "auto | cpu | gpu")
    devices: int = knob(1, "ranks of a node, one device each; torchrun or srun starts them", "ranks")
    num_nodes: int = knob(1, "nodes that run `devices` ranks each", "nodes")
    strategy: str = knob("auto", "auto (one device, or ddp) | ddp | fsdp | zero2 | zero3: what is spread over ranks")
    rank_timeout_s: float | None = knob(
        25.0, "end the job when a rank is silent or behind for so long; null: never", "s"
    )
    cpu_threads: int | None = knob(None, "threads of one process on a CPU; null: torch's own choice", "threads")
    gradient_checkpointing: bool = knob(False, "recompute activations in the backward pass: less memory, more time")
    eval_steps: int | None = knob(None, "validate every so many steps; null: at start and end only", "steps")
    eval_at_start: bool = knob(True, "validate before the first step")
    save_steps: int | None = knob(None, "save every so many steps; null: at the end only", "steps")
    save_delay_steps: int = knob(0, "hold back step and best checkpoints before this step", "steps")
    save_total_limit: int | None = knob(None, "step checkpoints kept beside best and last; null: all", "checkpoints")
    metric_for_best_model: str = knob("eval/loss", "the metric of `best`, and of early stopping")
    greater_is_better: bool = knob(False, "whether a larger metric is a better one")
    early_stopping_patience: int | None = knob(None, "stop after so many validations without a better one")
    logging_steps: int = knob(1, "log every so many steps", "steps")

    def __post_init__(self) -> None:
        one_of("trainer.accelerator", self.accelerator, ("auto", "cpu", "gpu"))
        one_of("trainer.strategy", self.strategy, STRATEGIES)
        at_least("trainer.rank_timeout_s", self.rank_timeout_s, 0, above=True)
        for name in ("num_train_epochs", "max_steps", "devices", "num_nodes", "cpu_threads"):
            at_least(f"trainer.{name}", getattr(self, name), 1)
        for name in ("logging_steps", "eval_steps", "save_steps", "save_total_limit", "early_stopping_patience"):
            at_least(f"trainer.{name}", getattr(self, name), 1)
        at_least("trainer.save_delay_steps", self.save_delay_steps, 0)
        if not self.metric_for_best_model.startswith("eval/"):
            raise ValueError(
                f"trainer.metric_for_best_model is '{self.metric_for_best_model}', "
                "expected a metric of the validation, such as eval/loss"
            )
        if self.early_stopping_patience and not self.eval_steps:
            raise ValueError(
                f"trainer.early_stopping_patience is {self.early_stopping_patience}, but trainer.eval_steps is null: "
                "nothing is validated on the way; set trainer.eval_steps"
            )
