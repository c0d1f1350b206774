"""Canvas ops: sizes, limits, and the crop that keeps labels true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvlm.augmentation.canvas import shrink
from dvlm.augmentation.pipeline import Pipeline
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import Annotation, Drawn

SURE = {"prob": 1.0}
bounded = settings(derandomize=True, deadline=None, max_examples=200, database=None)


def draw(ops: list[dict], width: int, height: int, *, shapes: list | None = None, seed: int = 0) -> Drawn:
    built = Shapes.build(shapes or [])
    annotation = Annotation(width, height, built, ("类型:显示完整",) * len(built))
    return Pipeline.build(ops).draw([annotation], np.random.default_rng(seed))[0]


def size(drawn: Drawn) -> tuple[int, int]:
    return drawn.annotation.width, drawn.annotation.height


@bounded
@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([1, 28, 32]), st.integers(1024, 2_000_000))
def test_max_pixels_holds_after_rounding_to_the_multiple(width: int, height: int, multiple: int, limit: int) -> None:
    for name in ("pad_to_multiple", "expand_to_fit_affine"):
        drawn = draw([{"name": name, "params": {"multiple": multiple, "max_pixels": limit}}], width, height)
        across, down = size(drawn)
        assert across * down <= limit
        assert across % multiple == down % multiple == 0


@bounded
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([1, 32]), st.integers(1024, 500_000))
def test_shrink_finds_the_largest_size(width: int, height: int, multiple: int, limit: int) -> None:
    def padded(factor: float) -> float:
        return float(np.prod([np.ceil(side * factor / multiple - 1e-9) * multiple for side in (width, height)]))

    across, down = shrink(width, height, multiple, limit)
    if padded(1) <= limit:
        assert (across, down) == (width, height)
        return
    factor = max((across + 1) / width, (down + 1) / height)
    assert padded(min(factor * 1.0001, 1)) > limit
    assert abs(across / width - down / height) <= max(1 / width, 1 / height) + 1e-9 or 1 in (across, down)


def test_pad_adds_at_the_right_and_the_bottom_only() -> None:
    drawn = draw([{"name": "pad_to_multiple"}], 100, 64, shapes=[(Kind.BBOX, [10, 20, 90, 60])])
    assert size(drawn) == (128, 64)
    assert drawn.annotation.shapes.of(0).tolist() == [[10, 20], [90, 60]]


def test_expand_keeps_everything_that_a_rotation_moves_out() -> None:
    corners = [(Kind.BBOX, [0, 0, 30, 30]), (Kind.BBOX, [170, 70, 200, 100])]
    rotate = {"name": "rotate", "params": {**SURE, "max_deg": 30}}
    cut = draw([rotate], 200, 100, shapes=corners)
    whole = draw([rotate, {"name": "expand_to_fit_affine"}], 200, 100, shapes=corners)
    assert min(cut.coverage) < 1
    assert whole.coverage == (1, 1)
    assert size(cut) == (200, 100)
    assert size(whole) > (200, 100)
    assert len(whole.steps) == 2


def test_expand_gives_a_quarter_turn_its_own_canvas() -> None:
    ops = [{"name": "scale", "params": {**SURE, "lo": 0.5, "hi": 0.5}}]
    assert size(draw([*ops, {"name": "expand_to_fit_affine", "params": {"multiple": 1}}], 200, 100)) == (100, 50)


def test_resize_by_scale_rounds_to_the_multiple() -> None:
    op = {"name": "resize_by_scale", "params": {**SURE, "lo": 0.5, "hi": 0.5}}
    drawn = draw([op], 200, 100, shapes=[(Kind.BBOX, [20, 20, 200, 100])])
    assert size(drawn) == (100, 50)
    assert drawn.annotation.shapes.of(0).tolist() == [[10, 10], [100, 50]]
    op["params"]["align_multiple"] = 32
    aligned = draw([op], 200, 100, shapes=[(Kind.BBOX, [20, 20, 200, 100])])
    assert size(aligned) == (96, 64)
    assert aligned.annotation.shapes.of(0)[1].tolist() == [96, 64]


GRID = [(Kind.BBOX, [x, y, x + 20, y + 20]) for y in range(0, 180, 22) for x in range(0, 180, 22)]


def crop(**params: object) -> list[dict]:
    return [{"name": "random_crop", "params": {**SURE, "scale": [0.4, 0.4], **params}}]


def test_a_crop_drops_what_it_hides_and_rewrites_what_it_cuts() -> None:
    drawn = draw(crop(min_coverage=0.3, completeness_threshold=0.95), 200, 200, shapes=GRID)
    assert 0 < len(drawn.kept) < len(GRID)
    assert len(drawn.kept) == len(drawn.coverage) == len(drawn.annotation.descs)
    assert min(drawn.coverage) >= 0.3
    expected = tuple("类型:只显示部分" if share < 0.95 else "类型:显示完整" for share in drawn.coverage)
    assert drawn.annotation.descs == expected
    assert len(set(expected)) == 2
    left, top = -drawn.steps[0].matrix[2], -drawn.steps[0].matrix[5]
    for index in range(len(GRID)):
        x1, y1, x2, y2 = GRID[index][1]
        across = max(0, min(x2 - left, drawn.annotation.width) - max(x1 - left, 0))
        down = max(0, min(y2 - top, drawn.annotation.height) - max(y1 - top, 0))
        assert (index in drawn.kept) == (across * down / 400 >= 0.3)


def test_the_words_are_parameters() -> None:
    drawn = draw(crop(complete="类型", partial="部分类型"), 200, 200, shapes=GRID)
    assert {"部分类型:显示完整", "类型:显示完整"} == set(drawn.annotation.descs)


@pytest.mark.parametrize(
    ("params", "shapes", "reason"),
    [
        ({"min_objects": 100}, GRID, "min_objects"),
        ({"min_objects": 1}, [*GRID, (Kind.LINE, [0, 0, 200, 200])], "line"),
        ({"min_objects": 1}, [*GRID, (Kind.LINE, [0, 0, 1, 1]), (Kind.LINE, [199, 199, 200, 200])], "line"),
    ],
)
def test_skips_say_why(params: dict, shapes: list, reason: str) -> None:
    drawn = draw(crop(**params), 200, 200, shapes=shapes)
    assert drawn.notes == (f"random_crop.skipped.{reason}",)
    assert drawn.steps == ()
    assert len(drawn.kept) == len(shapes)


def test_a_line_that_stays_whole_does_not_stop_the_crop() -> None:
    line = (Kind.LINE, [99, 99, 101, 101])
    drawn = draw(crop(min_objects=1), 200, 200, shapes=[*GRID, line])
    assert drawn.notes == ()
    assert len(GRID) in drawn.kept
    cut = draw(crop(min_objects=1, skip_if_line=False), 200, 200, shapes=[*GRID, (Kind.LINE, [0, 100, 200, 100])])
    assert cut.notes == ()
    assert len(cut.steps) == 1


def test_a_skipped_crop_changes_nothing_for_the_ops_around_it() -> None:
    rotate = {"name": "rotate", "params": SURE}
    expand = {"name": "expand_to_fit_affine"}
    ops = [rotate, {"name": "random_crop", "params": {**SURE, "min_objects": 99}}, expand]
    without = [rotate, {"name": "gamma", "params": {"prob": 0.0}}, expand]
    assert draw(ops, 200, 200, shapes=GRID).steps == draw(without, 200, 200, shapes=GRID).steps


def test_a_crop_of_nothing_but_fill_is_skipped() -> None:
    ops = [
        {"name": "pad_to_multiple", "params": {"multiple": 1000}},
        {"name": "random_crop", "params": {**SURE, "scale": [0.01, 0.01], "min_objects": 0}},
    ]
    notes = {draw(ops, 50, 50, seed=seed).notes for seed in range(10)}
    assert ("random_crop.skipped.fill",) in notes


def test_coverage_is_of_the_whole_shape_over_all_ops() -> None:
    # A zoom by 2 about the centre leaves a quarter of the box, and the crop a part of that.
    ops = [{"name": "scale", "params": {**SURE, "lo": 2, "hi": 2}}, *crop(min_objects=1, min_coverage=0.01)]
    drawn = draw(ops, 200, 200, shapes=[(Kind.BBOX, [0, 0, 200, 200])])
    canvas = drawn.annotation.width * drawn.annotation.height
    assert drawn.coverage[0] == pytest.approx(canvas / 400**2)
