"""The words for what augmentation did are those of the map that made it."""

from __future__ import annotations

import numpy as np
import pytest

from dvlm.augmentation.pipeline import Pipeline
from dvlm.augmentation.steps import Warp
from dvlm.gallery.words import events
from dvlm.geometry import affine
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import Annotation, Drawn

WIDTH, HEIGHT = 120, 80
FLIPS = {"": (1, 1), "left to right": (-1, 1), "top to bottom": (1, -1)}


def told(mapping, width=WIDTH, height=HEIGHT):
    """The events of one warp, by name."""
    warp = Warp(tuple(mapping[:2].reshape(-1).tolist()), width, height)
    drawn = Drawn(Annotation(width, height, Shapes.build([]), ()), steps=(warp,))
    return {event.name: event.detail for event in events(drawn, WIDTH, HEIGHT)}


def piped(*ops, descs=("甲",)):
    """What a pipeline makes of a small image, in words."""
    annotation = Annotation(WIDTH, HEIGHT, Shapes.build([(Kind.LINE, [1, 1, 100, 60])] * len(descs)), descs)
    drawn = Pipeline.build(ops).draw([annotation], np.random.default_rng(0))[0]
    return [str(event) for event in events(drawn, WIDTH, HEIGHT)]


@pytest.mark.parametrize("flip", FLIPS)
@pytest.mark.parametrize("degrees", [-40, -3.3, 0, 12, 80])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.3])
def test_a_map_is_told_as_it_was_made(flip, degrees, factor):
    mapping = affine.rotation(degrees) @ affine.scaling(factor, factor) @ affine.scaling(*FLIPS[flip])
    words = told(affine.about(WIDTH / 2, HEIGHT / 2, mapping), 400, 400)
    assert words.get("mirrored", "") == flip
    turn = f"{abs(degrees):.1f}° {'clockwise' if degrees > 0 else 'anticlockwise'}" if degrees else None
    assert words.get("turned") == turn
    assert words.get("resized") == (None if factor == 1 else f"to {factor:.0%}")
    assert "slanted" not in words


def test_what_is_cut_and_what_is_filled():
    words = told(affine.translation(-30, 0))
    assert words == {"cut": "25.0% of the picture", "fill": "25.0% of the canvas"}
    assert told(affine.translation(500, 0)) == {"cut": "100.0% of the picture", "fill": "100.0% of the canvas"}
    assert told(affine.matrix(1, 0.2, 0, 0, 1, 0), 200)["slanted"] == "by 11.3°"


def test_an_image_without_a_step_has_no_event():
    assert piped() == []
    assert told(affine.identity()) == {}


def test_ops_by_name_and_reasons_in_words():
    crop = {"name": "random_crop", "params": {"prob": 1.0, "scale": [0.1, 0.2], "min_objects": 0}}
    assert piped(crop) == ["random_crop skipped: it would cut a line"]
    flip = {"name": "hflip", "params": {"prob": 1.0, "skip_if_desc": ["左"]}}
    assert piped(flip, descs=("左侧",)) == ["hflip skipped: a description names a side"]
    assert piped(flip) == ["mirrored left to right"]
    gamma = {"name": "gamma", "params": {"prob": 1.0, "gamma": [1.25, 1.25]}}
    assert piped(gamma) == ["gamma 1.25"]


def test_a_seed_is_not_told():
    assert piped({"name": "noise", "params": {"prob": 1.0, "std": [3.0, 3.0]}}) == ["noise 3"]
