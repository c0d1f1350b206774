"""A histogram of sample lengths as inline SVG."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dvlm.gallery.markup import Html, tag

WIDTH, HEIGHT = 1080, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 30, 46  # the plot lies within these margins
BINS = 50  # at most, or a few more
FAR = 2.5  # a limit this many times the longest sample is named, not drawn


def histogram(tokens: NDArray[np.int64], limit: int) -> Html:
    """The lengths (n,) of samples, n >= 1, against the `limit`; bars beyond it are dark."""
    longest = int(tokens.max())
    near = limit <= FAR * longest
    end = max(longest, limit if near else 0) + 1
    step = nice((end - int(tokens.min())) / BINS)
    shift = (limit + 1) % step if near else 0  # a bar ends at the limit
    first = (int(tokens.min()) - shift) // step * step + shift
    last = first + step * math.ceil((end - first) / step)
    counts, _ = np.histogram(tokens, np.arange(first, last + step, step))
    plot = _Plot(first, last, int(counts.max()))
    bars = [plot.bar(first + step * i, step, int(count), limit) for i, count in enumerate(counts) if count]
    return tag(
        "svg",
        *plot.axes(),
        *bars,
        *plot.limit(limit, near),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"Histogram of sample lengths: {len(tokens)} turns of {tokens.min()} to {longest} tokens",
    )


def nice(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... that is at least `least`.

    >>> [nice(value) for value in (0.2, 3, 5, 51)]
    [1, 5, 5, 100]
    """
    power = 10 ** max(0, math.floor(math.log10(max(least, 1))))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least)


class _Plot:
    """The scales: tokens from `first` to `last` across, up to `most` turns a bar upwards."""

    def __init__(self, first: int, last: int, most: int) -> None:
        self.first, self.last = first, last
        self.tick = nice(most / 4)
        self.top = self.tick * math.ceil(most / self.tick)

    def x(self, tokens: float) -> float:
        """Pixels from the left."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (tokens - self.first) / (self.last - self.first)

    def y(self, turns: float) -> float:
        """Pixels from the top."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * turns / self.top

    def bar(self, start: int, step: int, count: int, limit: int) -> Html:
        """The turns from `start` tokens on, below `start + step`."""
        left, right = self.x(start), self.x(start + step)
        span = f"{start:,}" if step == 1 else f"{start:,} to {start + step - 1:,}"
        return tag(
            "rect",
            tag("title", f"{span} tokens: {count:,} turns"),
            x=f"{left + 0.75:.1f}",
            y=f"{self.y(count):.1f}",
            width=f"{max(1.0, right - left - 1.5):.1f}",
            height=f"{self.y(0) - self.y(count):.1f}",
            class_="over" if start > limit else "bar",
        )

    def axes(self) -> list[Html]:
        """Grid lines with their numbers, and the names of both axes."""
        parts = []
        for turns in range(0, self.top + 1, self.tick):
            y = self.y(turns)
            parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "grid" if turns else "axis"))
            parts.append(_text(LEFT - 8, y + 4, f"{turns:,}", "end"))
        step = nice((self.last - self.first) / 8)
        for tokens in range(-(-self.first // step) * step, self.last + 1, step):
            parts.append(_line(self.x(tokens), self.y(0), self.x(tokens), self.y(0) + 5, "axis"))
            parts.append(_text(self.x(tokens), self.y(0) + 19, f"{tokens:,}", "middle"))
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "tokens of a turn, images included", "middle"))
        return [*parts, _text(LEFT - 8, 14, "turns", "end")]

    def limit(self, limit: int, near: bool) -> list[Html]:
        """A line at the limit, or a word on where it is."""
        name = f"global_max_length {limit:,}"
        if not near:
            return [_text(WIDTH - RIGHT, 14, f"{name}, far to the right →", "end", "limit")]
        x = self.x(limit + 1)
        anchor = "end" if x > WIDTH / 2 else "start"
        return [_line(x, TOP - 8, x, self.y(0), "limit"), _text(x, 14, name, anchor, "limit")]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=kind)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "label") -> Html:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind)
