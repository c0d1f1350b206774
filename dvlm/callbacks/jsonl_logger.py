"""`logging.jsonl` in the run directory: one line for each set of metrics, always written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

FILE = "logging.jsonl"


class JsonlLogger(Logger):
    """Appends `{"step": n, "train/loss": ...}`; `resumed` brings along the lines of an earlier run up to a step."""

    def __init__(self, directory: Path, resumed: tuple[Path, int] | None = None) -> None:
        super().__init__()
        self.path = directory / FILE
        self._start(resumed)

    @rank_zero_only
    def _start(self, resumed: tuple[Path, int] | None) -> None:
        kept: list[str] = []
        if resumed is not None and (resumed[0] / FILE).is_file():
            lines = (resumed[0] / FILE).read_text(encoding="utf-8").splitlines(keepends=True)
            # A run that was killed may have left half a line.
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= resumed[1]]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._replace(kept)

    @rank_zero_only
    def forget(self, prefix: str, step: int) -> None:
        """Drop the lines of `step` that have a metric under `prefix`."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not _logs(json.loads(line), prefix, step)]
        if len(kept) < len(lines):
            self._replace(kept)

    def _replace(self, lines: list[str]) -> None:
        fresh = self.path.with_name(f".{FILE}")
        fresh.write_text("".join(lines), encoding="utf-8")
        os.replace(fresh, self.path)

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
        """One line, on disk at once."""
        line = json.dumps({"step": step, **metrics}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(line + "\n")

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration is in `config.yaml`."""


def _logs(metrics: Mapping[str, float], prefix: str, step: int) -> bool:
    return metrics["step"] == step and any(name.startswith(prefix) for name in metrics)
