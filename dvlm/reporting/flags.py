"""The monitoring checklist of distillation, applied to each run: what a person would look for in its curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvlm.reporting.runs import KL, SFT, Run

GOOD, WATCH, BAD = "good", "watch", "bad"
RISE = 1.15  # kl_loss still rises when its last tenth lies this many times above the tenth two tenths earlier
JUMP = 3.0  # eval/kl_loss jumps when it is this many times the greatest before it
WORSE = 1.05  # sft_loss is worse than SFT when it is this many times the baseline's
SMALL = 1e-3  # nats a token; below it kl_loss is next to nothing, and its ratios are noise
FEWEST = 20  # steps of a training curve from which a trend is read

CHECKS = (
    f"kl_loss levels off: healthy. Flagged while its last tenth is {RISE:g} times what it was two tenths earlier.",
    f"sft_loss against SFT: flagged above {WORSE:g} times the SFT baseline's, where there is one.",
    f"A jump of eval/kl_loss to {JUMP:g} times all before: tokenizer or template of teacher and student differ.",
    "A loss that is not a number; a run whose eval/sft_loss did not fall.",
)


@dataclass(frozen=True)
class Flag:
    """One finding: how bad it is, and what it says."""

    level: str
    text: str


def check(run: Run, baselines: Sequence[Run]) -> list[Flag]:
    """The findings about a run, the worst first; nothing for a run that has not validated yet."""
    found = [*_not_a_number(run), *_jump(run), *_learning(run), *_against(run, baselines), *_levels_off(run)]
    order = (BAD, WATCH, GOOD)
    return sorted(found, key=lambda flag: order.index(flag.level))


def _not_a_number(run: Run) -> list[Flag]:
    names = [name for name, series in run.log.series.items() if "loss" in name and not np.isfinite(series.values).all()]
    return [Flag(BAD, f"{', '.join(sorted(names)[:3])} is not a number at some step")] if names else []


def _jump(run: Run) -> list[Flag]:
    series = run.log.series.get(KL)
    if series is None:
        return []
    # A student that starts as its teacher starts at 0: the first rise is no jump.
    steps, values = series.steps[series.values > SMALL], series.values[series.values > SMALL]
    for place in range(1, len(values)):
        before = values[:place].max()
        if values[place] > JUMP * before:
            text = f"{KL} jumps from {before:.3g} to {values[place]:.3g} at step {steps[place]}: check that tokenizer "
            return [Flag(BAD, text + "and chat template of teacher and student are the same")]
    return []


def _learning(run: Run) -> list[Flag]:
    series = run.log.series.get(SFT)
    if series is None or len(series.values) < 2 or series.steps[0] != 0 or series.values[1:].min() < series.values[0]:
        return []
    return [Flag(BAD, f"{SFT} never fell below its {series.values[0]:.3g} at the start")]


def _against(run: Run, baselines: Sequence[Run]) -> list[Flag]:
    known = [value for baseline in baselines if (value := baseline.value(SFT)) is not None]
    value = run.value(SFT)
    if not known or value is None or run.is_sft:
        return []
    ratio = value / min(known)
    if ratio > WORSE:
        return [Flag(WATCH, f"{SFT} is {ratio - 1:.0%} above the SFT baseline: a lower beta, or more epochs")]
    return [Flag(GOOD, f"{SFT} is within {WORSE - 1:.0%} of SFT" if ratio >= 1 else f"{SFT} is below SFT")]


def _levels_off(run: Run) -> list[Flag]:
    values = run.log.values("train/kl_loss")
    values = values[np.isfinite(values)]
    if len(values) < FEWEST:
        return []
    late, earlier = _tenth(values, 1.0), _tenth(values, 0.8)
    if late < SMALL:
        return [Flag(GOOD, "kl_loss stays next to nothing")]
    if late > RISE * earlier:
        return [Flag(WATCH, f"kl_loss still rises at the end, {earlier:.3g} to {late:.3g}: a higher beta anchors more")]
    return [Flag(GOOD, "kl_loss levels off")]


def _tenth(values: NDArray[np.float64], end: float) -> float:
    """The mean of the tenth of `values` that ends at this share of them."""
    stop = round(len(values) * end)
    return float(values[stop - max(1, len(values) // 10) : stop].mean())
