"""What a canvas leaves of shapes."""

from __future__ import annotations

import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from dvlm.geometry import affine
from dvlm.geometry.clip import Clipped, clip, transform
from dvlm.geometry.order import signed_area
from dvlm.geometry.shapes import Kind, Shapes

bounded = settings(derandomize=True, deadline=None, max_examples=100, database=None)


def on_canvas(kind: Kind, *flat: float, size: float = 100) -> Clipped:
    return clip(Shapes.build([(kind, flat)]), affine.rectangle(size, size), size, size)


def test_inside_is_left_alone() -> None:
    clipped = on_canvas(Kind.QUAD, 0, 0, 100, 0, 100, 100, 0, 100)
    assert clipped.shapes.points.tolist() == affine.rectangle(100, 100).tolist()
    assert clipped.coverage.tolist() == [1]


def test_a_cut_box_stays_a_box() -> None:
    clipped = on_canvas(Kind.BBOX, -30, 20, 10, 60)
    assert clipped.shapes.kind(0) is Kind.BBOX
    assert clipped.shapes.of(0).tolist() == [[0, 20], [10, 60]]
    assert clipped.coverage == pytest.approx([0.25])


def test_a_quad_cut_to_a_triangle_is_that_triangle() -> None:
    clipped = on_canvas(Kind.QUAD, -10, 0, 10, -20, 30, 0, 10, 20)
    # The lower half of a square on its tip, without what is left of the canvas.
    polygon = shapely.Polygon(clipped.shapes.of(0))
    visible = shapely.Polygon([(-10, 0), (10, -20), (30, 0), (10, 20)]).intersection(shapely.box(0, 0, 100, 100))
    assert polygon.area >= visible.area - 1e-6
    assert polygon.buffer(1e-6).covers(visible)
    triangle = on_canvas(Kind.QUAD, 0, -20, 20, 0, 0, 20, -20, 0)
    assert shapely.Polygon(triangle.shapes.of(0)).area == pytest.approx(200)


def test_a_cut_quad_gets_the_best_four_corners() -> None:
    # Two corners of a tilted square are out: six are left. The box around them would be four tenths too large.
    quad = transform(Shapes.build([(Kind.BBOX, [40, 40, 99, 99])]), affine.about(69.5, 69.5, affine.rotation(20)))
    clipped = clip(quad, affine.rectangle(100, 100), 100, 100)
    visible = shapely.Polygon(quad.of(0)).intersection(shapely.box(0, 0, 100, 100))
    label = shapely.Polygon(clipped.shapes.of(0))
    assert label.buffer(1e-6).covers(visible)
    assert visible.area / label.area > 0.88
    assert visible.area / visible.envelope.area < 0.8


def test_a_line_that_leaves_and_comes_back_keeps_its_longest_part() -> None:
    clipped = on_canvas(Kind.LINE, 10, 50, 10, -50, 50, -50, 50, 80, 90, 80)
    assert clipped.shapes.of(0).tolist() == [[50, 0], [50, 80], [90, 80]]
    assert clipped.coverage == pytest.approx([170 / 310])


def test_a_line_that_crosses_itself_stays_whole() -> None:
    clipped = on_canvas(Kind.LINE, 10, 10, 90, 90, 90, 10, 10, 90, 10, 200)
    assert clipped.shapes.of(0).tolist() == [[10, 10], [90, 90], [90, 10], [10, 90], [10, 100]]


@pytest.mark.parametrize(
    ("kind", "flat", "expected", "coverage"),
    [
        (Kind.BBOX, (130, 40, 150, 60), [[100, 40], [100, 60]], 0),
        (Kind.QUAD, (-9, -9, -5, -9, -5, -5, -9, -5), [[0, 0]] * 4, 0),
        (Kind.LINE, (120, 20, 130, 30), [[100, 20], [100, 30]], 0),
        (Kind.BBOX, (20, 20, 20, 120), [[20, 20], [20, 100]], 1),  # no area, centre inside
        (Kind.LINE, (20, 20, 20, 20), [[20, 20], [20, 20]], 1),
        (Kind.QUAD, (0, 0, 0, 0, 0, 0, 120, 0), [[0, 0], [0, 0], [0, 0], [100, 0]], 1),
    ],
)
def test_degenerate_shapes_are_clamped_not_dropped(kind: Kind, flat: tuple, expected: list, coverage: float) -> None:
    clipped = on_canvas(kind, *flat)
    assert sorted(clipped.shapes.of(0).tolist()) == sorted(expected)
    assert clipped.coverage.tolist() == [coverage]


def test_a_quad_that_crosses_itself_is_clipped_all_the_same() -> None:
    clipped = on_canvas(Kind.QUAD, -20, 0, 40, 40, 40, 0, -20, 40)
    assert 0 < clipped.coverage[0] < 1
    assert signed_area(clipped.shapes.of(0)) > 0


def test_an_empty_window_shows_nothing() -> None:
    shapes = Shapes.build([(Kind.BBOX, [1, 1, 5, 5]), (Kind.LINE, [1, 1, 5, 5]), (Kind.QUAD, [0, 0, 1, 0, 1, 1, 0, 1])])
    clipped = clip(shapes, np.zeros((0, 2)), 100, 100)
    assert clipped.coverage.tolist() == [0, 0, 0]
    assert len(clipped.shapes) == 3


def test_a_box_under_a_rotation_becomes_a_quad_and_under_a_flip_stays_a_box() -> None:
    boxes = Shapes.build([(Kind.BBOX, [10, 20, 30, 60])])
    assert transform(boxes, affine.about(50, 50, affine.rotation(10))).kind(0) is Kind.QUAD
    flipped = transform(boxes, affine.matrix(-1, 0, 100, 0, 1, 0))
    assert (flipped.kind(0), flipped.of(0).tolist()) == (Kind.BBOX, [[70, 20], [90, 60]])
    turned = transform(boxes, affine.about(50, 50, affine.rotation(90)))
    assert (turned.kind(0), turned.of(0).tolist()) == (Kind.BBOX, [[40, 10], [80, 30]])


def test_quads_stay_clockwise_under_a_flip() -> None:
    quad = Shapes.build([(Kind.QUAD, [10, 10, 40, 20, 40, 50, 10, 40])])
    flipped = transform(quad, affine.matrix(-1, 0, 100, 0, 1, 0))
    assert flipped.of(0).tolist() == [[60, 20], [90, 10], [90, 40], [60, 50]]


@bounded
@given(st.integers(0, 2**32), st.floats(-180, 180))
def test_what_is_left_of_a_quad_is_in_its_label(seed: int, angle: float) -> None:
    rng = np.random.default_rng(seed)
    centres, sizes = rng.uniform(0, 100, (20, 2)), rng.uniform(2, 60, (20, 2))
    boxes = Shapes.build((Kind.BBOX, [*(c - s), *(c + s)]) for c, s in zip(centres, sizes, strict=True))
    quads = transform(boxes, affine.about(50, 50, affine.rotation(angle)) @ affine.matrix(1, 0.2, 0, 0, 1, 0))
    clipped = clip(quads, affine.rectangle(100, 100), 100, 100)
    canvas = shapely.box(0, 0, 100, 100)
    for index in range(len(quads)):
        whole, label = shapely.Polygon(quads.of(index)), shapely.Polygon(clipped.shapes.of(index))
        visible = whole.intersection(canvas)
        assert clipped.coverage[index] == pytest.approx(visible.area / whole.area, abs=1e-6)
        if visible.area < 1e-3:
            continue
        assert label.is_valid
        assert label.buffer(0.01).covers(visible)
        assert canvas.buffer(1e-6).covers(label)
        assert label.area <= visible.envelope.area + 1e-3


@bounded
@given(st.integers(0, 2**32))
def test_the_longest_part_of_a_line_by_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = [rng.uniform(-50, 150, (rng.integers(2, 9), 2)) for _ in range(5)]
    clipped = clip(Shapes.build((Kind.LINE, line.reshape(-1)) for line in lines), affine.rectangle(100, 100), 100, 100)
    for index, line in enumerate(lines):
        longest, share = brute_force(line)
        assert clipped.coverage[index] == pytest.approx(share, abs=0.02)
        if share > 0.01:
            assert path_length(clipped.shapes.of(index)) == pytest.approx(longest, abs=0.02 * path_length(line))


def brute_force(line: np.ndarray, steps: int = 2000) -> tuple[float, float]:
    """The length of the longest inside run, and the inside share, by walking along the line in small steps."""
    starts, ways = line[:-1], np.diff(line, axis=0)
    middles = (starts[:, None] + ways[:, None] * ((np.arange(steps) + 0.5) / steps)[:, None]).reshape(-1, 2)
    pieces = np.repeat(np.linalg.norm(ways, axis=1) / steps, steps)
    inside = ((middles > 0) & (middles < 100)).all(axis=1)
    longest = run = 0.0
    for piece, within in zip(pieces.tolist(), inside.tolist(), strict=True):
        run = run + piece if within else 0.0
        longest = max(longest, run)
    return longest, float(pieces[inside].sum() / pieces.sum())


def path_length(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def test_a_thousand_shapes_do_not_cost_a_thousand_times_one() -> None:
    def cost(count: int) -> float:
        corners = np.random.default_rng(0).uniform(0, 1000, (count, 2))
        shapes = Shapes.build((Kind.BBOX, [x, y, x + 60, y + 60]) for x, y in corners)
        mapping, window = affine.about(500, 500, affine.rotation(15)), affine.rectangle(1000, 1000)
        times = []
        for _ in range(7):
            start = time.process_time()
            clip(transform(shapes, mapping), window, 1000, 1000)
            times.append(time.process_time() - start)
        return min(times)

    assert cost(1000) < 60 * cost(1)
