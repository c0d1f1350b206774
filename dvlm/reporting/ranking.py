"""Which runs are on the Pareto front, and which one is recommended, with the reason."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dvlm.reporting.flags import BAD, Flag
from dvlm.reporting.runs import KL, SFT, Run, greater_is_better
from dvlm.reporting.sweep import Sweep
from dvlm.values import InputError


@dataclass(frozen=True)
class Recommendation:
    """The run to take, why, and the command that makes a model of it."""

    run: Run
    reason: str

    @property
    def command(self) -> str:
        """Exports its best checkpoint."""
        run, merged = (shlex.quote(str(path)) for path in (self.run.directory, self.run.directory / "merged"))
        return f"python -m dvlm.export checkpoint={run} output={merged}"


def cost(run: Run, metric: str) -> float | None:
    """A metric as something to be small; None where the run lacks it."""
    value = run.value(metric)
    return value if value is None or not greater_is_better(metric) else -value


def front(runs: Sequence[Run], first: str, second: str) -> list[Run]:
    """The runs that no other beats in both metrics, in the order of the first.

    Of runs that are equal in both, the first stays.
    """
    costs = [(cost(run, first), cost(run, second), place) for place, run in enumerate(runs)]
    rows = sorted((a, b, place) for a, b, place in costs if a is not None and b is not None)
    kept, least = [], float("inf")
    for _, second_cost, place in rows:
        if second_cost < least:
            kept.append(runs[place])
            least = second_cost
    return kept


def recommend(
    sweep: Sweep, flags: dict[str, list[Flag]], *, metric: str | None, max_kl: float | None
) -> Recommendation | None:
    """The run to take: by `metric`; else by the caption score; else from the front of kl_loss and sft_loss; else by
    sft_loss. None while no run has ended with a result. `max_kl` bounds eval/kl_loss.

    Raises InputError for a metric that no run has.
    """
    if metric is not None and metric not in sweep.metrics:
        raise InputError(f"metric is '{metric}', which no run has logged; logged are {', '.join(sweep.metrics)}")
    ended = [run for run in sweep.runs if run.usable]
    sound = [run for run in ended if not any(flag.level == BAD for flag in flags[run.name])] or ended
    near = [run for run in sound if max_kl is None or (run.value(KL) or 0.0) <= max_kl]
    limit = "" if max_kl is None else f" among runs with {KL} of at most {max_kl:g}"
    chosen = metric or next(iter(sweep.scores), None)
    if chosen is None and max_kl is None:
        candidates = front(near, KL, SFT)
        if len(candidates) > 1:
            return _knee(candidates, len(near))
    return _best(near, chosen or SFT, limit)


def _best(runs: Sequence[Run], metric: str, limit: str) -> Recommendation | None:
    rows = [(value, run) for run in runs if (value := cost(run, metric)) is not None]
    if not rows:
        return None
    run = min(rows, key=lambda row: row[0])[1]
    word = "highest" if greater_is_better(metric) else "lowest"
    return Recommendation(run, f"It has the {word} {metric}, {run.value(metric):.4g}, of {len(rows)} runs{limit}.")


def _knee(candidates: Sequence[Run], runs: int) -> Recommendation:
    """The run of the front that gives up least: both losses scaled to 0..1 over the front, the nearest to (0, 0)."""
    costs = np.array([[run.value(KL), run.value(SFT)] for run in candidates], np.float64)
    least, most = costs.min(axis=0), costs.max(axis=0)
    away = np.hypot(*((costs - least) / np.where(most > least, most - least, 1)).T)
    run, (kl, sft) = candidates[int(away.argmin())], costs[int(away.argmin())]
    reason = (
        f"No run has both less {KL} and less {SFT} than any of {len(candidates)} of {runs} runs, the front; of these "
        f"it gives up least of both: {KL} {kl:.4g} (front {least[0]:.4g} to {most[0]:.4g}), "
        f"{SFT} {sft:.4g} (front {least[1]:.4g} to {most[1]:.4g})."
    )
    return Recommendation(run, reason)
