"""Whole runs of a second or two: six records of demo data, small pictures, one image a turn."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from support import small_config

from dvlm.train import train

GKD = "+experiment=gkd_forward"
# Three packs an epoch, one a step.
SHORT = (
    "data.demo.train=6",
    "data.demo.val=2",
    "data.max_pixels=16384",
    "data.packs_per_step=1",
    "data.images_per_user_turn=1",
    "global_max_length=512",
    "trainer.num_train_epochs=1",
)


@dataclass(frozen=True)
class Run:
    """A finished run: its directory and what `train` returned."""

    directory: Path
    value: float

    @cached_property
    def log(self) -> list[dict[str, float]]:
        """The lines of logging.jsonl."""
        return [json.loads(line) for line in (self.directory / "logging.jsonl").read_text().splitlines()]

    def metrics(self, prefix: str) -> dict[int, dict[str, float]]:
        """What was logged under `prefix` and under lr/, by step."""
        found: dict[int, dict[str, float]] = {}
        for line in self.log:
            values = {k: v for k, v in line.items() if k.startswith((prefix, "lr/"))}
            if any(name.startswith(prefix) for name in values):
                found.setdefault(int(line["step"]), {}).update(values)
        return found

    def checkpoint(self, name: int | str = "last") -> Path:
        """The checkpoint directory of a step, or the one that `best` or `last` stands for."""
        return self.directory / "checkpoints" / (f"step-{name:06d}" if isinstance(name, int) else name)

    def trainer_state(self, name: int | str = "last") -> dict[str, Any]:
        """trainer.ckpt, read without unpickling objects."""
        return torch.load(self.checkpoint(name) / "trainer.ckpt", weights_only=True)

    def adapter(self, name: int | str = "last") -> dict[str, torch.Tensor]:
        """The adapter weights of a checkpoint."""
        return load_file(self.checkpoint(name) / "adapter_model.safetensors")

    def model(self, name: int | str = "last") -> dict[str, torch.Tensor]:
        """The weights of a checkpoint that is a whole model."""
        return load_file(self.checkpoint(name) / "model.safetensors")

    def steps(self) -> list[int]:
        """The steps that have a checkpoint."""
        return sorted(int(path.name[5:]) for path in (self.directory / "checkpoints").glob("step-*"))


def run(directory: Path, *overrides: str) -> Run:
    """Train in `directory` with the overrides on top of `SHORT`."""
    directory.mkdir(parents=True, exist_ok=True)
    return Run(directory, train(small_config(*SHORT, *overrides), directory))


def same(ours: Any, theirs: Any, where: str = "") -> None:
    """Equal to the last bit, whatever is nested in it."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs), where
        for key in ours:
            same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            same(*pair, f"{where}[{index}]")
    else:
        assert ours == theirs, where
