"""A run directory, read: what was asked for, what became of it, what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dvlm.reporting import log
from dvlm.reporting.log import Log
from dvlm.sweeps import lock
from dvlm.sweeps.status import Status

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is there
LOSS, SFT, KL = "eval/loss", "eval/sft_loss", "eval/kl_loss"
STATES = ("succeeded", "pruned", "running", "preempted", "failed", "waiting", "unknown")


def greater_is_better(metric: str) -> bool:
    """Losses are to be small, whatever else is measured (accuracies, scores) large."""
    return "loss" not in metric


@dataclass(frozen=True)
class Run:
    """One run. `overrides` by key, as written; `config` is the resolved configuration, {} while there is none;
    `status` is what it says of itself, None for one that never started or does not say."""

    directory: Path
    overrides: Mapping[str, str]
    config: Mapping[str, Any]
    status: Status | None
    log: Log

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.directory.name

    @property
    def state(self) -> str:
        """One of `STATES`. A run without a status is `unknown` once it has logged, `waiting` before."""
        if "sweep/pruned_at" in self.log.series:
            return "pruned"
        if self.status is None:
            return "unknown" if self.log.series else "waiting"
        return str(self.status.state)

    @property
    def usable(self) -> bool:
        """Whether its results are those of a whole run."""
        return self.state in ("succeeded", "unknown")

    @property
    def error(self) -> str:
        """The last line of the error that ended it, or an empty text."""
        return (self.status.error if self.status else None) or ""

    def knob(self, key: str) -> Any:
        """The resolved value of a dotted key, or None where the configuration has none."""
        node: Any = self.config
        for name in key.split("."):
            node = node.get(name) if isinstance(node, Mapping) else None
        return node

    def parameter(self, key: str) -> Any:
        """The value of a knob, or of a choice such as rlhf=gkd the name of the option; None where neither is known."""
        value = self.knob(key)
        if key in self.overrides and (value is None or isinstance(value, Mapping)):
            return _scalar(self.overrides[key])
        return value

    @property
    def is_sft(self) -> bool:
        """Whether it was trained without a teacher: what distilled runs are compared with."""
        return bool(self.knob("rlhf.rlhf_type") == "none")

    @property
    def steps(self) -> int | None:
        """The optimizer steps that it will have, where known."""
        return self.status.steps if self.status else None

    @cached_property
    def seconds(self) -> float | None:
        """From its start to its end, or to now while it runs; None where unknown."""
        if self.status is None:
            return None
        ended = datetime.fromisoformat(self.status.ended) if self.status.ended else datetime.now(UTC)
        return (ended - datetime.fromisoformat(self.status.started)).total_seconds()

    @property
    def device_hours(self) -> float | None:
        """Hours of one device: the time of the run times its devices."""
        devices = (self.knob("trainer.devices") or 1) * (self.knob("trainer.num_nodes") or 1)
        return None if self.seconds is None else self.seconds / 3600 * devices

    @property
    def tokens_per_second(self) -> float | None:
        """The median over its steps, on all devices together."""
        rates = self.log.values("perf/tokens_per_second")
        return float(np.median(rates)) if len(rates) else None

    @property
    def metrics(self) -> list[str]:
        """The metrics of its validations."""
        return sorted(name for name in self.log.series if name.startswith("eval/"))

    @cached_property
    def best_step(self) -> int | None:
        """The step of its `best` checkpoint, whose values count; else that of its best, or its last, validation."""
        link = self.directory / "checkpoints" / "best"
        if link.is_symlink():
            return int(link.readlink().name.removeprefix("step-"))
        metric = str(self.knob("trainer.metric_for_best_model") or LOSS)
        series = self.log.series.get(metric)
        if series is None:
            return max((int(self.log.series[name].steps[-1]) for name in self.metrics), default=None)
        steps, values = series.steps, np.where(series.steps > 0, series.values, np.nan)
        if np.isnan(values).all():
            return int(steps[-1])
        greater = self.knob("trainer.greater_is_better")
        return int(steps[np.nanargmax(values) if greater else np.nanargmin(values)])

    def value(self, metric: str) -> float | None:
        """A validation's metric at the best checkpoint, else the last one; None where there is none or it is nan."""
        series = self.log.series.get(metric)
        if series is None:
            return None
        found = series.at(self.best_step) if self.best_step is not None else None
        value = series.last if found is None else found
        return value if np.isfinite(value) else None


def read(directory: Path, overrides: list[str] | None = None) -> Run:
    """The run of a directory; `overrides` stand in while it has written none itself."""
    own = _yaml(directory / ".hydra" / "overrides.yaml")
    lines = [line.lstrip("+") for line in (own if isinstance(own, list) else overrides or [])]
    pairs = [line.partition("=") for line in lines if not line.startswith("hydra.")]
    config = _yaml(directory / "config.yaml")
    return Run(
        directory,
        {key: value for key, _, value in pairs},
        config if isinstance(config, dict) else {},
        lock.observed(directory),
        log.read(directory / log.FILE),
    )


def _yaml(path: Path) -> Any:
    """What a YAML file holds; None where it is missing or, in a live sweep, half written."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), LOADER)
    except (FileNotFoundError, yaml.YAMLError):
        return None


def _scalar(text: str) -> Any:
    """The value that an override writes: a number where it is one (YAML reads 5e-5 as a text)."""
    try:
        return float(text) if not text.strip().lstrip("-").isdigit() else int(text)
    except ValueError:
        return text
