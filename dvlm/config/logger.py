"""Group `logger`: where metrics go beside `logging.jsonl`, which is always written."""

from __future__ import annotations

from dataclasses import dataclass, field

from dvlm.config.knob import knob, one_of


@dataclass
class WandbConfig:
    """Weights & Biases; without a key the run is recorded offline and can be synced later."""

    enabled: bool = knob(False, "log to W&B")
    project: str = knob("dvlm", "W&B project")
    entity: str | None = knob(None, "W&B team or user; null: the account's default")
    group: str | None = knob(None, "W&B group; null: the sweep's name, none outside of a sweep")
    mode: str = knob("auto", "auto (offline without a key) | online | offline")
    tags: list[str] = knob([], "W&B tags")

    def __post_init__(self) -> None:
        one_of("logger.wandb.mode", self.mode, ("auto", "online", "offline"))


@dataclass
class LoggerConfig:
    """Where metrics go beside `logging.jsonl`, which is always written."""

    tensorboard: bool = knob(True, "write TensorBoard events into the run directory")
    wandb: WandbConfig = field(default_factory=WandbConfig)
