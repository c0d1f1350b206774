"""The order of shapes and of corners."""

from __future__ import annotations

import numpy as np
import pytest

from dvlm.geometry.order import clockwise, signed_area, top_left
from dvlm.geometry.shapes import Kind, Shapes

SQUARE = np.array([[10.0, 10.0], [30.0, 10.0], [30.0, 30.0], [10.0, 30.0]])


def test_top_to_bottom_then_left_to_right() -> None:
    shapes = Shapes.build(
        [
            (Kind.BBOX, [50, 20, 60, 30]),
            (Kind.LINE, [90, 5, 0, 40]),
            (Kind.QUAD, [20, 20, 40, 20, 40, 40, 20, 40]),
            (Kind.BBOX, [20, 20, 21, 21]),
        ]
    )
    # The line's bounding box starts at (0, 5); the two that start at (20, 20) keep their order.
    assert top_left(shapes).tolist() == [1, 2, 3, 0]
    assert top_left(Shapes.build([])).tolist() == []


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("step", [1, -1])
def test_one_spelling_of_a_quad(start: int, step: int) -> None:
    spelling = np.roll(SQUARE[::step], start, axis=0)
    assert clockwise(spelling[None])[0].tolist() == SQUARE.tolist()


def test_a_square_on_its_tip_starts_at_the_top() -> None:
    tip = np.array([[10.0, 0.0], [20.0, 10.0], [10.0, 20.0], [0.0, 10.0]])
    noise = np.array([[1e-12, 1e-12], [0, 0], [0, 0], [-1e-12, 0]])
    for quad in (tip, tip + noise, np.roll(tip, 2, axis=0)[::-1]):
        assert clockwise(quad[None])[0, 0] == pytest.approx([10, 0])


def test_signed_area_is_positive_clockwise_on_the_screen() -> None:
    assert signed_area(np.stack([SQUARE, SQUARE[::-1]])).tolist() == [400, -400]
