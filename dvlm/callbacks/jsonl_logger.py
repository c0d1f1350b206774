"""`logging.jsonl` in the run directory: one line for each set of metrics, always written."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from dvlm import durable

log = logging.getLogger(__name__)
FILE = "logging.jsonl"


class JsonlLogger(Logger):
    """Appends `{"step": n, "train/loss": ...}`; `resumed` brings along the lines of an earlier run up to a step."""

    def __init__(self, directory: Path, resumed: tuple[Path, int] | None = None) -> None:
        super().__init__()
        self.path = directory / FILE
        self._start(resumed)

    @rank_zero_only
    def _start(self, resumed: tuple[Path, int] | None) -> None:
        kept = [line for line, metrics in _lines(resumed[0] / FILE) if metrics["step"] <= resumed[1]] if resumed else []
        durable.replace_text(self.path, "".join(kept))

    @rank_zero_only
    def forget(self, prefix: str, step: int) -> None:
        """Drop the lines of `step` that have a metric under `prefix`."""
        lines = _lines(self.path)
        kept = [line for line, metrics in lines if not _logs(metrics, prefix, step)]
        if len(kept) < len(lines):
            durable.replace_text(self.path, "".join(kept))

    @rank_zero_only
    def sync(self) -> None:
        """Wait until all lines are on the disk, so that a checkpoint is never ahead of them."""
        durable.sync(self.path)

    @property
    def name(self) -> str:
        """Lightning wants one."""
        return "jsonl"

    @property
    def version(self) -> str:
        """Lightning wants one."""
        return "0"

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """One line, written at once."""
        line = json.dumps({"step": step, **metrics}, ensure_ascii=False)
        try:
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(line + "\n")
        except OSError as error:
            error.filename = str(self.path)  # a write that is refused does not say where
            raise

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration is in `config.yaml`."""


def _lines(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a log and what they say. One that was cut off or damaged is left out, and told."""
    found: list[tuple[str, dict[str, Any]]] = []
    for number, raw in enumerate(file.read_bytes().splitlines(keepends=True) if file.is_file() else [], 1):
        try:
            if not raw.endswith(b"\n"):
                raise ValueError("it was cut off")
            found.append((raw.decode(), json.loads(raw)))
        except ValueError as error:
            log.warning("%s:%d is left out: %s", file, number, error)
    return found


def _logs(metrics: Mapping[str, float], prefix: str, step: int) -> bool:
    return metrics["step"] == step and any(name.startswith(prefix) for name in metrics)
