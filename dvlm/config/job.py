"""What Hydra knows of the job that runs: its overrides, and the sweep and the trial that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The trial of a sampling sweep that a job is: `number` in `study`, which compares `metric` by `pruner`."""

    study: str
    storage: Path
    number: int
    metric: str
    pruner: str
    pruner_params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """The overrides of a run; `sweep` is the directory of its sweep, `trial` is there where it may end early."""

    overrides: tuple[str, ...] = ()
    sweep: Path | None = None
    trial: Trial | None = field(default=None)

    @classmethod
    def current(cls) -> Job:
        """The job that Hydra runs in this process."""
        hydra = HydraConfig.get()
        sweep = Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None
        return cls(overrides=tuple(hydra.overrides.task), sweep=sweep, trial=_trial(hydra.sweeper) if sweep else None)


def _trial(node: Any) -> Trial | None:
    sweeper = OmegaConf.to_container(node, resolve=True)
    assert isinstance(sweeper, dict)
    if sweeper.get("trial") is None or sweeper.get("pruner") is None:
        return None
    metric = sweeper["metric"]
    return Trial(
        study=sweeper["study_name"],
        storage=Path(sweeper["storage"]),
        number=sweeper["trial"],
        metric=metric if isinstance(metric, str) else metric[0],
        pruner=sweeper["pruner"],
        pruner_params=sweeper["pruner_params"] or {},
    )
