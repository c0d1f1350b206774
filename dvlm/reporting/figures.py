"""The figures of a sweep, each a PNG: front, heat maps, curves, parallel coordinates, importance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from dvlm.reporting import canvas
from dvlm.reporting.canvas import ACCENT, INK, MAP, MUTED, WARM, places, short, shown, spans_decades
from dvlm.reporting.importance import Importance
from dvlm.reporting.ranking import front
from dvlm.reporting.runs import KL, SFT, Run, greater_is_better
from dvlm.reporting.sweep import Sweep, numbers

CURVES = ("train/sft_loss", "train/kl_loss", SFT, KL)
SMOOTH = 12  # steps of a training curve over which its mean is drawn


def pareto(sweep: Sweep, first: str, second: str, chosen: Run | None) -> bytes | None:
    """The runs by two metrics, the front as a line; None where fewer than two runs have both."""
    runs = [run for run in sweep.whole if run.value(first) is not None and run.value(second) is not None]
    if len(runs) < 2:
        return None
    figure, [[axes]] = canvas.sheet(1, 1, 7.2, 4.6)
    key, colours, norm = _coloured(sweep, runs)
    axes.scatter(*_columns(runs, first, second), c=colours, s=34, linewidths=0.6, edgecolors="white", zorder=3)
    best = front([run for run in runs if run.usable], first, second)
    axes.plot(*_columns(best, first, second), color=INK, linewidth=1.1, zorder=2, label=f"front ({len(best)} runs)")
    for run in best if len(best) <= 8 else []:
        axes.annotate(
            _label(sweep, run),
            (run.value(first) or 0.0, run.value(second) or 0.0),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=7.5,
            color=MUTED,
        )
    if chosen is not None and chosen in runs:
        axes.scatter(*_columns([chosen], first, second), s=150, facecolors="none", edgecolors=WARM, linewidths=1.8,
                     zorder=4, label="recommended")  # fmt: skip
    known = [value for baseline in sweep.baselines if (value := baseline.value(second)) is not None]
    if known:
        height = max(known) if greater_is_better(second) else min(known)
        axes.axhline(height, color=INK, linestyle="--", linewidth=0.9, label="SFT")
    axes.set(xlabel=_axis(first), ylabel=_axis(second))
    _colour_bar(axes, key, norm)
    axes.legend(loc="best")
    return canvas.png(figure)


def _columns(runs: Sequence[Run], first: str, second: str) -> tuple[list[float], list[float]]:
    return [run.value(first) or 0.0 for run in runs], [run.value(second) or 0.0 for run in runs]


def heat_maps(sweep: Sweep, metrics: Sequence[str]) -> bytes | None:
    """Each metric over beta and learning rate, one map for each lmbda (or over the first parameters of numbers).

    A cell is the best of its runs; None where fewer than two numeric parameters vary.
    """
    axes_of, panel = _axes_of(sweep)
    shown_metrics = [name for name in metrics if any(run.value(name) is not None for run in sweep.whole)]
    if len(axes_of) < 2 or not shown_metrics:
        return None
    values = sorted({str(run.parameter(panel)) for run in sweep.runs}) if panel else [""]
    width = 1.4 + 3.4 * len(values)
    figure, grid = canvas.sheet(len(shown_metrics), len(values), width, 0.4 + 2.6 * len(shown_metrics))
    for row, metric in zip(grid, shown_metrics, strict=True):
        known = [value for run in sweep.whole if (value := run.value(metric)) is not None]
        norm = Normalize(min(known), max(known))
        for axes, panel_value in zip(row, values, strict=True):
            runs = [run for run in sweep.whole if not panel or str(run.parameter(panel)) == panel_value]
            _heat_map(axes, runs, axes_of, metric, norm)
            axes.set_title(metric + (f", {short(panel)} {panel_value}" if panel else ""))
        cmap = MAP if not greater_is_better(metric) else MAP.reversed()
        figure.colorbar(ScalarMappable(norm, cmap), ax=row, shrink=0.9, pad=0.02)
    return canvas.png(figure)


def _axes_of(sweep: Sweep) -> tuple[list[str], str | None]:
    """The two parameters across and upwards, and the one that has a map for each of its values."""
    numeric = [key for key in sweep.parameters if numbers(run.parameter(key) for run in sweep.runs)]
    wanted = [key for name in ("beta", "learning_rate") for key in numeric if short(key) == name]
    rest = [key for key in numeric if key not in wanted and short(key) != "lmbda"]
    first = [*wanted, *rest, *(key for key in numeric if short(key) == "lmbda")][:2]
    panels = [key for key in sweep.parameters if short(key) == "lmbda" and key not in first]
    few = [key for key in panels if len({str(run.parameter(key)) for run in sweep.runs}) <= 4]
    return first, next(iter(few), None)


def _heat_map(axes: Axes, runs: Sequence[Run], keys: Sequence[str], metric: str, norm: Normalize) -> None:
    cmap = MAP if not greater_is_better(metric) else MAP.reversed()
    best: dict[tuple[float, float], float] = {}
    for run in runs:
        value = run.value(metric)
        if value is not None:
            cell = (float(run.parameter(keys[0])), float(run.parameter(keys[1])))
            better = max if greater_is_better(metric) else min
            best[cell] = better(value, best.get(cell, value))
    across, upwards = (sorted({cell[axis] for cell in best}) for axis in (0, 1))
    axes.set(xlabel=short(keys[0]), ylabel=short(keys[1]))
    if not best:
        return
    if len(across) * len(upwards) > 2 * len(best):  # sampled values: points, not cells
        xs, ys = zip(*best, strict=True)
        axes.scatter(xs, ys, c=list(best.values()), cmap=cmap, norm=norm, s=36)
        canvas.scale(axes, across, upwards)
        return
    cells = np.array([[best.get((x, y), np.nan) for x in across] for y in upwards])
    axes.imshow(cells, cmap=cmap, norm=norm, origin="lower", aspect="auto")
    axes.set_xticks(range(len(across)), [shown(x) for x in across])
    axes.set_yticks(range(len(upwards)), [shown(y) for y in upwards])
    axes.grid(visible=False)
    if cells.size <= 40:
        for (y, x), value in np.ndenumerate(cells):
            dark = np.isfinite(value) and float(norm(value)) < 0.55
            dark = dark if not greater_is_better(metric) else not dark
            text = f"{value:#.3g}" if np.isfinite(value) else "–"
            axes.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if dark else INK)


def curves(sweep: Sweep, chosen: Run | None) -> bytes | None:
    """Losses over steps, every run on top of the other; the recommended run and SFT baselines stand out."""
    names = [name for name in CURVES if any(name in run.log.series for run in sweep.runs)]
    if not names:
        return None
    figure, grid = canvas.sheet((len(names) + 1) // 2, min(2, len(names)), 10.5, 3.1 * ((len(names) + 1) // 2))
    key, _, norm = _coloured(sweep, sweep.runs)
    flat = [axes for row in grid for axes in row]
    for axes, name in zip(flat, names, strict=False):
        lines, shades = [], []
        for run in sweep.runs:
            if name in run.log.series:
                lines.append(_curve(run, name))
                shades.append(_shade(run, key, norm))
        thin = 1.1 if len(lines) <= 40 else 0.5
        axes.add_collection(LineCollection(lines, colors=shades, linewidths=thin, alpha=0.85 if thin > 1 else 0.45))
        for baseline in sweep.baselines[:3]:
            if name in baseline.log.series:
                axes.plot(*_curve(baseline, name).T, color=INK, linestyle="--", linewidth=1.3, label="SFT")
        if chosen is not None and name in chosen.log.series:
            axes.plot(*_curve(chosen, name).T, color=WARM, linewidth=2.0, label="recommended")
        axes.autoscale_view()
        axes.set(title=name, xlabel="optimizer step")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(*zip(*{text: (handle, text) for handle, text in zip(handles, labels, strict=True)}.values(),
                         strict=True)) if labels else None  # fmt: skip
    for axes in flat[len(names) :]:
        axes.set_visible(False)
    if key:
        figure.colorbar(ScalarMappable(norm, MAP), ax=flat, shrink=0.6, pad=0.01, label=short(key))
    return canvas.png(figure)


def _curve(run: Run, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n, 2): steps and values; those of training as running means."""
    series = run.log.series[name]
    values = series.values
    if name.startswith("train/") and len(values) > 4 * SMOOTH:
        values = np.convolve(values, np.ones(SMOOTH) / SMOOTH, mode="valid")
    return np.column_stack([series.steps[-len(values) :], values])


def parallel(sweep: Sweep, metrics: Sequence[str], chosen: Run | None) -> bytes | None:
    """One line a run through its parameters and metrics; None for fewer than two runs or two axes."""
    measured = [name for name in metrics if any(run.value(name) is not None for run in sweep.whole)]
    runs = [run for run in sweep.whole if measured and all(run.value(name) is not None for name in measured)]
    columns: list[tuple[str, list[Any]]] = [
        *((short(key), [run.parameter(key) for run in runs]) for key in sweep.parameters),
        *((name, [run.value(name) for run in runs]) for name in measured),
    ]
    if len(runs) < 2 or len(columns) < 2:
        return None
    figure, [[axes]] = canvas.sheet(1, 1, 10.5, 3.8)
    heights = []
    for place, (name, values) in enumerate(columns):
        known = numbers(values)
        log = known is not None and spans_decades(known)
        heights.append(places(values, log=log))
        _scale(axes, place, name, values)
    first = measured[0]
    costs = np.array([run.value(first) for run in runs], np.float64)
    norm = Normalize(costs.min(), costs.max())
    cmap = MAP if not greater_is_better(first) else MAP.reversed()
    lines = [np.column_stack([np.arange(len(columns)), line]) for line in zip(*heights, strict=True)]
    thin = 1.3 if len(runs) <= 40 else 0.5
    axes.add_collection(LineCollection(lines, colors=cmap(norm(costs)), linewidths=thin, alpha=0.8))
    if chosen in runs:
        axes.plot(*lines[runs.index(chosen)].T, color=WARM, linewidth=2.4)
    axes.set(xlim=(-0.35, len(columns) - 0.6), ylim=(-0.16, 1.12))
    axes.axis("off")
    return canvas.png(figure)


def _scale(axes: Axes, place: int, name: str, values: Sequence[Any]) -> None:
    """A vertical axis with its name above and a few of its values beside it."""
    axes.axvline(place, ymin=0.125, ymax=0.875, color=MUTED, linewidth=0.8)
    axes.text(place, 1.06, name, ha="center", va="bottom", fontsize=9, color=INK)
    known = numbers(values)
    distinct = sorted(set(known)) if known else sorted(set(map(str, values)))
    ticks = distinct if len(distinct) <= 6 else [distinct[0], distinct[-1]]
    heights = places([*values, *ticks], log=known is not None and spans_decades(known))[len(values) :]
    for tick, height in zip(ticks, heights, strict=True):
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
        axes.text(place - 0.02, height, shown(tick), ha="right", va="center", fontsize=7.5, color=INK, bbox=box)


def importances(found: Sequence[Importance]) -> bytes | None:
    """One panel of bars for each metric."""
    if not found:
        return None
    rows = max(len(each.shares) for each in found)
    figure, [row] = canvas.sheet(1, len(found), 5.2 * len(found), 0.9 + 0.32 * rows)
    for axes, each in zip(row, found, strict=True):
        names = [short(name) for name in each.shares][::-1]
        axes.barh(names, list(each.shares.values())[::-1], color=ACCENT, height=0.6)
        axes.set(title=each.metric, xlim=(0, 1))
        axes.grid(visible=False, axis="y")
    return canvas.png(figure)


def _coloured(sweep: Sweep, runs: Sequence[Run]) -> tuple[str | None, list[Any], Normalize]:
    """The parameter that colours the runs (beta, else the first of numbers), their colours, and the scale."""
    numeric = [key for key in sweep.parameters if numbers(run.parameter(key) for run in sweep.runs)]
    key = next((key for key in numeric if short(key) == "beta"), next(iter(numeric), None))
    known = [float(run.parameter(key)) for run in sweep.runs] if key else [0.0, 1.0]
    norm = Normalize(min(known), max(known))
    return key, [_shade(run, key, norm) for run in runs], norm


def _shade(run: Run, key: str | None, norm: Normalize) -> Any:
    return MAP(norm(float(run.parameter(key)))) if key else ACCENT


def _colour_bar(axes: Axes, key: str | None, norm: Normalize) -> None:
    if key:
        axes.figure.colorbar(ScalarMappable(norm, MAP), ax=axes, shrink=0.8, pad=0.02, label=short(key))


def _label(sweep: Sweep, run: Run) -> str:
    return " ".join(shown(run.parameter(key)) for key in sweep.parameters)


def _axis(metric: str) -> str:
    return f"{metric} ({'more' if greater_is_better(metric) else 'less'} is better)"
