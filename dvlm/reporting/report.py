"""The whole report of a sweep, made and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dvlm.data import writing
from dvlm.reporting import canvas, figures, page, rows
from dvlm.reporting.flags import Flag, check
from dvlm.reporting.importance import Importance, importance
from dvlm.reporting.ranking import Recommendation, front, recommend
from dvlm.reporting.runs import KL, SFT
from dvlm.reporting.sharing import sharing
from dvlm.reporting.sweep import Sweep


@dataclass(frozen=True)
class Report:
    """A sweep with what was found out about it. `flags` are by the name of the run, `figures` PNG files by name."""

    sweep: Sweep
    flags: dict[str, list[Flag]]
    chosen: Recommendation | None
    importance: list[Importance]
    figures: Mapping[str, bytes]

    @classmethod
    def of(cls, sweep: Sweep, *, metric: str | None, max_kl: float | None) -> Report:
        """Judge the runs, choose one, draw the figures."""
        flags = {run.name: check(run, sweep.baselines) for run in sweep.runs}
        chosen = recommend(sweep, flags, metric=metric, max_kl=max_kl)
        results = [SFT, KL, *sweep.scores[:1]]
        matters = [found for name in results if (found := importance(sweep, name))]
        run = chosen.run if chosen else None
        with canvas.style():
            drawn = {
                "front": figures.pareto(sweep, KL, SFT, run),
                "scores": figures.pareto(sweep, KL, sweep.scores[0], run) if sweep.scores else None,
                "heat_maps": figures.heat_maps(sweep, results),
                "curves": figures.curves(sweep, run),
                "parallel": figures.parallel(sweep, results, run),
                "importance": figures.importances(matters),
            }
        return cls(sweep, flags, chosen, matters, {name: png for name, png in drawn.items() if png})

    def write(self, directory: Path, *, refresh: float | None = None) -> Path:
        """Write `index.html`, the figures, `runs.csv` and `report.json`; returns the page. Replaces what is there.

        Raises InputError where the disk refuses.
        """
        table = rows.records(self.sweep, self.flags)
        target = directory / "index.html"
        texts = {
            "runs.csv": rows.as_csv(table),
            "report.json": json.dumps(self.facts(table), ensure_ascii=False, indent=1, default=str) + "\n",
            target.name: page.page(self.sweep, self.flags, self.chosen, self.figures, self.importance, refresh=refresh),
        }
        for name, text in texts.items():
            with writing.whole(directory / name, overwrite=True) as handle:
                handle.write(text)
        for name, png in self.figures.items():
            (directory / f"{name}.png").write_bytes(png)
        return target

    def facts(self, table: list[dict[str, Any]]) -> dict[str, Any]:
        """The report as plain values."""
        sweep, usable = self.sweep, [run for run in self.sweep.runs if run.usable]
        shared = sharing(sweep.runs)
        return {
            "name": sweep.name,
            "directory": str(sweep.directory),
            "command": sweep.command,
            "created": sweep.created,
            "parameters": sweep.parameters,
            "recommended": self.chosen
            and {"run": self.chosen.run.name, "reason": self.chosen.reason, "command": self.chosen.command},
            "fronts": {name: [run.name for run in front(usable, KL, name)] for name in (SFT, *sweep.scores)},
            "importance": [
                {"metric": each.metric, "method": each.method, "shares": each.shares} for each in self.importance
            ],
            "teacher_cache": shared and asdict(shared),
            "baselines": [str(run.directory) for run in sweep.baselines],
            "runs": table,
        }
