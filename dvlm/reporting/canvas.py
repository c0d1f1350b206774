"""One look for all figures: fonts, colours, scales, PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

INK, MUTED, RULE, ACCENT, WARM = "#22272e", "#626a73", "#e2e0da", "#1f6f78", "#c4602b"
MAP: Colormap = LinearSegmentedColormap.from_list("report", ["#163b52", "#1f6f78", "#5aa897", "#c9c27a", "#e9a94f"])
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "WenQuanYi Micro Hei")
DPI = 110


@contextmanager
def style() -> Iterator[None]:
    """Figures made inside look like the page; Chinese is shown where a font for it is installed."""
    known = {font.name for font in font_manager.fontManager.ttflist}
    settings: dict[str, Any] = {
        "font.family": [name for name in FONTS if name in known],
        "font.size": 9,
        "text.parse_math": False,  # a $ in a name is a $
        "axes.edgecolor": RULE,
        "axes.labelcolor": MUTED,
        "axes.titlecolor": INK,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": RULE,
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
    }
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        yield


def sheet(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of `width` x `height` inches with a grid of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def places(values: Sequence[Any], *, log: bool = False) -> list[float]:
    """Values as places on an axis from 0 to 1: numbers to scale (or to the scale of their logarithms), names in order.

    >>> places([1, 2, 3])
    [0.0, 0.5, 1.0]
    >>> places(["b", "a"])
    [1.0, 0.0]
    """
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        order = {name: place for place, name in enumerate(sorted(set(map(str, values))))}
        return [order[str(value)] / max(1, len(order) - 1) for value in values]
    scaled = np.log(np.array(values, np.float64)) if log else np.array(values, np.float64)
    span = float(scaled.max() - scaled.min())
    return [float(each) for each in (scaled - scaled.min()) / (span or 1.0)]


def spans_decades(values: Sequence[float]) -> bool:
    """Whether a logarithmic scale shows these numbers better.

    >>> spans_decades([1e-5, 1e-3]), spans_decades([0, 10]), spans_decades([0.1, 0.5])
    (True, False, False)
    """
    return min(values) > 0 and max(values) >= 8 * min(values)


def scale(axes: Axes, across: Sequence[float], upwards: Sequence[float]) -> None:
    """Logarithmic axes where the numbers span decades, with plain numbers at their ticks."""
    for axis, set_scale, known in ((axes.xaxis, axes.set_xscale, across), (axes.yaxis, axes.set_yscale, upwards)):
        if spans_decades(known):
            set_scale("log")
            axis.set_major_formatter(lambda value, _: shown(value))
            axis.set_minor_formatter(lambda value, _: "")


def short(key: str) -> str:
    """The last part of a knob's or metric's name, with `eval/` left on: `beta` for rlhf.beta."""
    return key.rpartition(".")[2]


def shown(value: Any) -> str:
    """A value as a person writes it: 5e-05 becomes 5e-5."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")
