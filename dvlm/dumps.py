"""A step that can be run again: the weights that train, the configuration, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dvlm import durable, run
from dvlm.config import TrainConfig
from dvlm.data.datamodule import CaptionDataModule
from dvlm.models import weights
from dvlm.values import InputError

FOLDER, WEIGHTS, FACTS = "dumps", "trainable.safetensors", "step.json"
SHARDED = ("fsdp", "zero2", "zero3")  # no rank holds all weights
MOST = 5  # dumps of one run; later ones are not written


@dataclass(frozen=True)
class Dumps:
    """The `dumps/` directory of a run."""

    root: Path
    config: TrainConfig
    data: CaptionDataModule

    def records(self, step: int) -> list[str]:
        """`file:line` of every record of the step that follows `step` finished ones."""
        plan = self.data.train_plan
        packs = plan.packs[step * plan.packs_per_step : (step + 1) * plan.packs_per_step]
        return [self.data.train_line.turn(*name).place for pack in packs if not pack.filler for name in pack.samples]

    def dump(self, module: Any, step: int, what: str, values: Mapping[str, float]) -> str:
        """Write `step-000012/`; returns its path, or why there is none: a disk that refuses must not hide `what`."""
        if self.config.trainer.strategy in SHARDED:
            return f"(no dump under trainer.strategy={self.config.trainer.strategy})"
        target = self.root / f"step-{step + 1:06d}"
        if not target.exists() and self.root.is_dir() and len(list(self.root.iterdir())) >= MOST:
            return f"(no dump: {self.root} holds {MOST})"
        # JSON has no nan: numbers travel as their text.
        numbers = {name: repr(float(value)) for name, value in values.items()}
        facts = {"step": step, "what": what, "values": numbers, "records": self.records(step)}
        try:
            with durable.appearing(target) as fresh:
                fresh.mkdir()
                run.write_config(fresh, self.config)
                save_file(_trainable(module), fresh / WEIGHTS)
                (fresh / FACTS).write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        except (OSError, SafetensorError) as error:
            return f"(no dump: {error})"
        return str(target)


def _trainable(module: Any) -> dict[str, Tensor]:
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


@dataclass(frozen=True)
class Dump:
    """A dump that was read: what happened at which step, and how the run was configured, on one process."""

    config: TrainConfig
    step: int
    what: str
    values: dict[str, float]
    weights: dict[str, Tensor]

    @classmethod
    def read(cls, directory: Path) -> Dump:
        """Raises InputError for a directory that is no dump."""
        config = run.read_config(directory)
        if config is None or not all((directory / name).is_file() for name in (WEIGHTS, FACTS)):
            raise InputError(f"{directory} is not a dump: expected a directory such as <run>/dumps/step-000012")
        facts = json.loads((directory / FACTS).read_text(encoding="utf-8"))
        alone = replace(config, resume_from=None, trainer=replace(config.trainer, devices=1, max_steps=None))
        values = {name: float(text) for name, text in facts["values"].items()}
        return cls(alone, facts["step"], facts["what"], values, weights.read(directory / WEIGHTS))
