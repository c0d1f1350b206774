"""Maps of points, in the one pixel convention."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from dvlm.geometry import affine


def test_docstring_examples_run() -> None:
    assert doctest.testmod(affine).failed == 0


def test_second_at_first_does_first_first() -> None:
    both = affine.scaling(2, 2) @ affine.translation(1, 0)
    assert affine.apply(both, np.array([[3.0, 5.0]])).tolist() == [[8, 10]]


def test_positive_rotation_is_clockwise_on_the_screen() -> None:
    # From the right (3 o'clock) a clockwise quarter turn leads to the bottom (6 o'clock), where y is larger.
    assert affine.apply(affine.rotation(90), np.array([[1.0, 0.0]])).tolist() == [[0, 1]]


def test_about_leaves_its_centre() -> None:
    centre = np.array([[30.0, 70.0]])
    assert affine.apply(affine.about(30, 70, affine.rotation(33)), centre) == pytest.approx(centre)


def test_inverse() -> None:
    mapping = affine.about(3, 4, affine.rotation(20)) @ affine.scaling(2, 0.5)
    assert affine.inverse(mapping) @ mapping == pytest.approx(affine.identity())


@pytest.mark.parametrize(
    ("mapping", "keeps"),
    [
        (affine.identity(), True),
        (affine.matrix(-1, 0, 100, 0, 1, 0), True),
        (affine.scaling(1.3, 0.4), True),
        (affine.about(50, 50, affine.rotation(90)), True),
        (affine.rotation(1e-3), False),
        (affine.matrix(1, 0.1, 0, 0, 1, 0), False),
    ],
)
def test_keeps_boxes(mapping: np.ndarray, keeps: bool) -> None:
    assert affine.keeps_boxes(mapping) is keeps


def test_pixel_index_of_a_mirror_is_the_last_index_minus_x() -> None:
    mirror = affine.to_pixel_index(affine.matrix(-1, 0, 100, 0, 1, 0))
    assert affine.apply(mirror, np.array([[0.0, 7.0], [99.0, 7.0]])).tolist() == [[99, 7], [0, 7]]
