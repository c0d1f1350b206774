"""What tests import: a small configuration, and where the tiny model and demo sets are kept."""

from __future__ import annotations

from pathlib import Path

from dvlm.config import TrainConfig
from dvlm.config.compose import compose

CACHE = Path(__file__).resolve().parents[1] / "outputs" / "cache"
SMALL = (
    "data.demo.train=24",
    "data.demo.val=6",
    "callbacks.sample_pictures=0",
    "callbacks.progress=none",
    "logger=none",
    "tuner.lora_rank=8",
    "tuner.lora_alpha=16",
)


def small_config(*overrides: str) -> TrainConfig:
    """The composed `train` configuration on the tiny model and a small demo set, silent."""
    return compose("train", [f"cache_dir={CACHE}", *SMALL, *overrides])
