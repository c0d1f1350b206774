"""Shapes as arrays."""

from __future__ import annotations

import numpy as np
import pytest

from dvlm.geometry.shapes import BBox, Kind, Line, Quad, Shapes, box_corners


@pytest.fixture
def shapes() -> Shapes:
    return Shapes.build(
        [(Kind.BBOX, [1, 2, 3, 4]), (Kind.LINE, [0, 0, 5, 5, 9, 1]), (Kind.QUAD, [0, 0, 4, 0, 4, 4, 0, 4])]
    )


def test_views(shapes: Shapes) -> None:
    box, line, quad = shapes[0], shapes[1], shapes[2]
    assert isinstance(box, BBox)
    assert isinstance(line, Line)
    assert isinstance(quad, Quad)
    assert box.corners.tolist() == [[1, 2], [3, 2], [3, 4], [1, 4]]
    assert line.points.tolist() == [[0, 0], [5, 5], [9, 1]]
    with pytest.raises(IndexError, match="shape 3 of 3"):
        shapes[3]


def test_iterates_over_views(shapes: Shapes) -> None:
    assert [type(shape).__name__ for shape in shapes] == ["BBox", "Line", "Quad"]


def test_bounds_and_counts(shapes: Shapes) -> None:
    assert shapes.bounds.tolist() == [[1, 2, 3, 4], [0, 0, 9, 5], [0, 0, 4, 4]]
    assert shapes.counts.tolist() == [2, 3, 4]
    assert Shapes.build([]).bounds.shape == (0, 4)


@pytest.mark.parametrize("indices", [[], [2], [2, 0], [1, 1, 0], [0, 1, 2]])
def test_take_equals_one_by_one(shapes: Shapes, indices: list[int]) -> None:
    taken = shapes.take(indices)
    assert len(taken) == len(indices)
    for position, index in enumerate(indices):
        assert taken.kind(position) is shapes.kind(index)
        assert taken.of(position).tolist() == shapes.of(index).tolist()


def test_replaced_changes_only_what_it_names(shapes: Shapes) -> None:
    points = np.array([[7.0, 7.0], [8.0, 8.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    changed = shapes.replaced(np.array([1, 0]), Kind.LINE, points, np.array([2, 4]))
    assert changed.of(1).tolist() == [[7, 7], [8, 8]]
    assert changed.of(0).tolist() == [[1, 1], [2, 2], [3, 3], [4, 4]]
    assert changed.of(2).tolist() == shapes.of(2).tolist()
    assert changed.kinds.tolist() == [Kind.LINE, Kind.LINE, Kind.QUAD]
    assert shapes.kind(0) is Kind.BBOX


def test_corners_of_many_boxes() -> None:
    assert box_corners(np.zeros((0, 2, 2))).shape == (0, 4, 2)
    assert box_corners(np.array([[[0, 1], [2, 3]]])).tolist() == [[[0, 1], [2, 1], [2, 3], [0, 3]]]
