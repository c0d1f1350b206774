"""`logging.jsonl` in the run directory: one line for each set of metrics, always written."""

from __future__ import annotations

import json
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
        self.path.write_text("".join(kept), encoding="utf-8")

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
