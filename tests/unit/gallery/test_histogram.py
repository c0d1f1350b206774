"""The histogram shows every turn, on which side of the limit it is, and never leaves its frame."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dvlm.gallery.histogram import HEIGHT, WIDTH, histogram, nice


def attributes(svg, name):
    """The attributes of every element of a name."""
    return [dict(re.findall(r'(\S+)="([^"]*)"', each)) for each in re.findall(rf"<{name}([^>]*)>", svg)]


@pytest.mark.parametrize("tokens", [[7], [5, 5, 5], [10, 4000], list(range(300, 700)), [1, 100_000]])
@pytest.mark.parametrize("limit", [16, 450, 4096, 200_000])
def test_every_turn_is_in_a_bar_on_its_side_of_the_limit(tokens, limit):
    svg = histogram(np.array(tokens), limit)
    counted = [int(count.replace(",", "")) for count in re.findall(r"tokens: ([\d,]+) turns", svg)]
    bars = attributes(svg, "rect")
    assert sum(counted) == len(tokens)
    over = [count for count, bar in zip(counted, bars, strict=True) if bar["class"] == "over"]
    assert sum(over) == sum(each > limit for each in tokens)
    assert f"global_max_length {limit:,}" in svg


@pytest.mark.parametrize("tokens", [[7], list(range(300, 700)), [1, 100_000]])
def test_bars_and_words_lie_in_the_frame(tokens):
    svg = histogram(np.array(tokens), 500)
    for bar in attributes(svg, "rect"):
        x, y, width, height = (float(bar[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + width <= WIDTH
        assert 0 <= y <= y + height <= HEIGHT
    assert all(0 <= float(text["x"]) <= WIDTH and 0 < float(text["y"]) < HEIGHT for text in attributes(svg, "text"))


def test_the_tallest_bar_has_most_turns():
    svg = histogram(np.array([100] * 9 + [200] * 3 + [900]), 1000)
    heights = [float(bar["height"]) for bar in attributes(svg, "rect")]
    assert heights == pytest.approx([9 * heights[2], 3 * heights[2], heights[2]], abs=0.5)


def test_a_far_limit_is_named_and_not_drawn():
    assert not [line for line in attributes(histogram(np.array([10, 20]), 4096), "line") if line["class"] == "limit"]
    assert [line for line in attributes(histogram(np.array([10, 4000]), 4096), "line") if line["class"] == "limit"]


def test_nice_numbers():
    assert [nice(value) for value in (0.01, 1, 1.1, 2.5, 7, 11, 200, 201)] == [1, 1, 2, 5, 10, 20, 200, 500]
