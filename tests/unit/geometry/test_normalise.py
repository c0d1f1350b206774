"""Coordinates of answers: in range, and back to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvlm.geometry.normalise import denormalise, normalise


def test_known_values() -> None:
    points = np.array([[0.0, 0.0], [960.0, 270.0], [1920.0, 1080.0]])
    assert normalise(points, 1920, 1080, "norm1000").tolist() == [[0, 0], [500, 250], [1000, 1000]]
    assert normalise(points, 1920, 1080, "norm100").tolist() == [[0, 0], [50, 25], [100, 100]]
    assert normalise(points + 0.4, 1920, 1080, "none").tolist() == [[0, 0], [960, 270], [1920, 1080]]


def test_values_out_of_range_are_clamped() -> None:
    points = np.array([[-5.0, 130.0]])
    assert normalise(points, 200, 100, "norm1000").tolist() == [[0, 1000]]
    assert normalise(points, 200, 100, "none").tolist() == [[0, 100]]


@settings(derandomize=True, deadline=None, database=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from(["none", "norm100", "norm1000"]), st.integers(0, 99))
def test_round_trips(width: int, height: int, norm: str, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0, [width, height], (20, 2))
    numbers = normalise(points, width, height, norm)
    back = denormalise(numbers, width, height, norm)
    step = {
        "none": np.ones(2),
        "norm100": np.array([width, height]) / 100,
        "norm1000": np.array([width, height]) / 1000,
    }
    assert (np.abs(back - points) <= step[norm] / 2 + 1e-9).all()
    assert (normalise(back, width, height, norm) == numbers).all()


def test_no_points() -> None:
    assert normalise(np.zeros((0, 2)), 10, 10, "norm1000").shape == (0, 2)


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="emit_norm must be one of none, norm100, norm1000, got 'norm10'"):
        normalise(np.zeros((1, 2)), 10, 10, "norm10")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive width and height, got 0x10"):
        denormalise(np.zeros((1, 2), np.int64), 0, 10, "norm100")
