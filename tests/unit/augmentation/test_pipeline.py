"""Draws: pure, independent of one another, and without pixels."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from dvlm.augmentation.pipeline import Pipeline
from dvlm.augmentation.steps import Colour, Warp, padding_ratio
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import Annotation, Drawn

SURE = {"prob": 1.0}
EVERYTHING = [
    {"name": "hflip", "params": {"prob": 0.5}},
    {"name": "rotate", "params": SURE},
    {"name": "random_crop", "params": {**SURE, "min_objects": 1}},
    {"name": "color_jitter", "params": SURE},
    {"name": "noise", "params": SURE},
    {"name": "pad_to_multiple"},
]


def annotation(width: int = 200, height: int = 100, descs: tuple[str, ...] = ("螺丝/显示完整", "线缆")) -> Annotation:
    shapes = [(Kind.BBOX, [20, 30, 60, 80]), (Kind.LINE, [100, 40, 150, 60, 120, 70])]
    return Annotation(width, height, Shapes.build(shapes[: len(descs)]), descs)


def draw(ops: list[dict], seed: int = 0, *, of: Annotation | None = None) -> Drawn:
    return Pipeline.build(ops).draw([of or annotation()], np.random.default_rng(seed))[0]


def test_without_ops_everything_passes_through() -> None:
    given = annotation()
    drawn = draw([], of=given)
    assert drawn.annotation is given
    assert (drawn.steps, drawn.kept, drawn.coverage, drawn.notes) == ((), (0, 1), (1.0, 1.0), ())


def test_equal_generators_draw_equal_bytes() -> None:
    assert pickle.dumps(draw(EVERYTHING, 7)) == pickle.dumps(draw(EVERYTHING, 7))
    assert pickle.dumps(draw(EVERYTHING, 7)) != pickle.dumps(draw(EVERYTHING, 8))


def test_a_drawn_image_is_small() -> None:
    assert len(pickle.dumps(draw(EVERYTHING))) < 2000


def test_an_image_does_not_depend_on_its_neighbour() -> None:
    pipeline = Pipeline.build(EVERYTHING)
    first, second = annotation(), annotation(321, 123)
    one = pipeline.draw([first, second], np.random.default_rng(3))
    other = pipeline.draw([annotation(777, 99, ()), second], np.random.default_rng(3))
    assert pickle.dumps(one[1]) == pickle.dumps(other[1])
    assert pickle.dumps(one[0].steps) != pickle.dumps(one[1].steps)


def test_changing_or_appending_an_op_leaves_the_draws_of_the_others() -> None:
    ops = [{"name": "hflip", "params": {"prob": 0.0}}, {"name": "gamma", "params": SURE}]
    changed = [{"name": "hflip", "params": SURE}, ops[1], {"name": "blur", "params": SURE}]
    (gamma,) = draw(ops).steps
    assert draw(changed).steps[1] == gamma


def test_prob_is_the_share_of_images() -> None:
    pipeline = Pipeline.build([{"name": "hflip", "params": {"prob": 0.3}}])
    drawn = pipeline.draw([annotation()] * 2000, np.random.default_rng(0))
    assert np.mean([bool(each.steps) for each in drawn]) == pytest.approx(0.3, abs=0.03)


def test_a_bypassed_turn_is_clean_as_a_whole() -> None:
    pipeline = Pipeline.build(EVERYTHING, bypass_prob=0.5)
    clean = Pipeline.build(EVERYTHING).clean().draw([annotation()] * 3, np.random.default_rng(0))
    bypassed = 0
    for seed in range(200):
        drawn = pipeline.draw([annotation()] * 3, np.random.default_rng(seed))
        same = [pickle.dumps(each) == pickle.dumps(clean[0]) for each in drawn]
        assert all(same) or not any(same)
        bypassed += same[0]
    assert 70 < bypassed < 130


def test_clean_images_keep_what_always_holds() -> None:
    pipeline = Pipeline.build(EVERYTHING, bypass_prob=0.5).clean()
    assert [op.name for op in pipeline.ops] == ["pad_to_multiple"]
    assert pipeline.bypass_prob == 0
    drawn = pipeline.draw([annotation(200, 100)], np.random.default_rng(0))[0]
    assert (drawn.annotation.width, drawn.annotation.height) == (224, 128)
    assert drawn.annotation.shapes.points.tolist() == annotation().shapes.points.tolist()


def test_consecutive_affine_ops_are_one_warp_and_colours_come_last() -> None:
    ops = [{"name": name, "params": SURE} for name in ("hflip", "gamma", "rotate", "scale", "blur", "vflip")]
    steps = draw(ops).steps
    assert [type(step) for step in steps] == [Warp, Colour, Colour]


def test_a_crop_and_a_resize_join_the_warp_before_them() -> None:
    crop = {"name": "random_crop", "params": {**SURE, "min_objects": 0, "skip_if_line": False}}
    resize = {"name": "resize_by_scale", "params": SURE}
    steps = draw([{"name": "rotate", "params": SURE}, crop, resize]).steps
    assert [type(step) for step in steps] == [Warp]
    # A canvas that grows shows what the last one had cut off, unless it gets a step of its own.
    assert len(draw([{"name": "rotate", "params": SURE}, {"name": "pad_to_multiple"}]).steps) == 2


@pytest.mark.parametrize("name", ["hflip", "vflip"])
def test_flips_skip_images_with_direction_words(name: str) -> None:
    ops = [{"name": name, "params": {**SURE, "skip_if_desc": ["左", "右"]}}]
    skipped = draw(ops, of=annotation(descs=("螺丝", "左侧线缆")))
    assert skipped.steps == ()
    assert skipped.notes == (f"{name}.skipped.desc",)
    flipped = draw(ops)
    assert len(flipped.steps) == 1
    assert flipped.notes == ()


def test_flip_is_exact() -> None:
    drawn = draw([{"name": "hflip", "params": SURE}])
    assert drawn.annotation.shapes.of(0).tolist() == [[140, 30], [180, 80]]
    assert drawn.annotation.shapes.of(1).tolist() == [[100, 40], [50, 60], [80, 70]]
    vertical = draw([{"name": "vflip", "params": SURE}])
    assert vertical.annotation.shapes.of(0).tolist() == [[20, 20], [60, 70]]


def test_rotate_stays_within_max_deg_both_ways() -> None:
    pipeline = Pipeline.build([{"name": "rotate", "params": {**SURE, "max_deg": 10}}])
    drawn = pipeline.draw([annotation()] * 300, np.random.default_rng(0))
    angles = np.degrees([np.arctan2(each.steps[0].matrix[3], each.steps[0].matrix[0]) for each in drawn])
    assert -10 <= angles.min() < -8
    assert 8 < angles.max() <= 10


def test_padding_ratio() -> None:
    drawn = draw([{"name": "pad_to_multiple"}])
    assert padding_ratio(drawn, 200, 100) == pytest.approx(1 - 200 * 100 / (224 * 128))
    assert padding_ratio(replace(drawn, steps=(), annotation=annotation()), 200, 100) == 0


def test_an_image_without_objects() -> None:
    drawn = draw(EVERYTHING, of=annotation(descs=()))
    assert len(drawn.annotation.shapes) == 0
    assert drawn.notes == ("random_crop.skipped.min_objects",)
