"""Pixels: exact where they can be, the same every time, and the fill is sacred."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zlib

import numpy as np
import pytest
import skimage.data

from dvlm.augmentation.colour import ColourOp
from dvlm.augmentation.op import OPS
from dvlm.augmentation.pipeline import Pipeline
from dvlm.augmentation.render import FILL, render
from dvlm.augmentation.steps import Warp, shown
from dvlm.geometry.shapes import Shapes
from dvlm.geometry.window import contains
from dvlm.values import Annotation, Drawn

SURE = {"prob": 1.0}
COLOURS = sorted(name for name, op in OPS.items() if issubclass(op, ColourOp))
STRONG = {
    "color_jitter": {"brightness": [1.5, 1.5], "contrast": [1.4, 1.4], "saturation": [0.2, 0.2]},
    "gamma": {"gamma": [2.0, 2.0]},
    "hsv": {"hue_delta_deg": [90, 90], "val": [0.5, 0.5]},
    "clahe": {"clip_limit": 40.0},
    "sharpness": {"factor": [3.0, 3.0]},
    "auto_contrast": {"cutoff": 5.0},
    "blur": {"sigma": [2.0, 2.0]},
    "noise": {"std": [20.0, 20.0]},
}


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.chelsea()[:150, :225])


def draw(photo: np.ndarray, ops: list[dict], seed: int = 0) -> Drawn:
    annotation = Annotation(photo.shape[1], photo.shape[0], Shapes.build([]), ())
    return Pipeline.build(ops).draw([annotation], np.random.default_rng(seed))[0]


def test_without_steps_the_image_is_itself(photo: np.ndarray) -> None:
    assert render(photo, draw(photo, [])) is photo


def test_flips_and_pads_and_crops_copy_pixels(photo: np.ndarray) -> None:
    height, width = photo.shape[:2]
    assert np.array_equal(render(photo, draw(photo, [{"name": "hflip", "params": SURE}])), photo[:, ::-1])
    assert np.array_equal(render(photo, draw(photo, [{"name": "vflip", "params": SURE}])), photo[::-1])
    padded = render(photo, draw(photo, [{"name": "pad_to_multiple", "params": {"multiple": 100}}]))
    assert padded.shape == (200, 300, 3)
    assert np.array_equal(padded[:height, :width], photo)
    assert (padded[height:] == FILL).all()
    assert (padded[:, width:] == FILL).all()
    drawn = draw(photo, [{"name": "random_crop", "params": {**SURE, "min_objects": 0, "scale": [0.5, 0.5]}}])
    left, top = round(-drawn.steps[0].matrix[2]), round(-drawn.steps[0].matrix[5])
    expected = photo[top : top + drawn.annotation.height, left : left + drawn.annotation.width]
    assert np.array_equal(render(photo, drawn), expected)


def test_four_quarter_turns_come_back(photo: np.ndarray) -> None:
    square = photo[:150, :150]
    quarter = Warp(matrix=(0.0, -1.0, 150.0, 1.0, 0.0, 0.0), width=150, height=150)
    drawn = draw(square, [])
    turned = render(square, Drawn(drawn.annotation, (quarter,)))
    assert np.array_equal(turned, np.rot90(square, -1))
    assert np.array_equal(render(square, Drawn(drawn.annotation, (quarter,) * 4)), square)


def test_shrinking_averages_and_does_not_skip_pixels() -> None:
    stripes = np.zeros((240, 240, 3), np.uint8)
    stripes[:, ::2] = 255
    for ops in (
        [{"name": "resize_by_scale", "params": {**SURE, "lo": 0.25, "hi": 0.25}}],
        [{"name": "scale", "params": {**SURE, "lo": 0.25, "hi": 0.25}}],
    ):
        small = render(stripes, draw(stripes, ops))
        middle = small[small.shape[0] // 2, small.shape[1] // 2 - 20 : small.shape[1] // 2 + 20]
        assert np.abs(middle.astype(int) - 128).max() <= 40


def test_the_input_is_never_written_to(photo: np.ndarray) -> None:
    before = photo.copy()
    for name in COLOURS:
        assert render(photo, draw(photo, [{"name": name, "params": {**SURE, **STRONG[name]}}])) is not photo
    assert np.array_equal(photo, before)


@pytest.mark.parametrize("name", COLOURS)
def test_colour_ops_change_the_image_and_never_the_fill(name: str, photo: np.ndarray) -> None:
    moves = [
        {"name": "rotate", "params": {**SURE, "max_deg": 30}},
        {"name": "expand_to_fit_affine"},
        {"name": "pad_to_multiple", "params": {"multiple": 100}},
    ]
    plain = draw(photo, moves)
    coloured = draw(photo, [*moves, {"name": name, "params": {**SURE, **STRONG[name]}}])
    before, after = render(photo, plain), render(photo, coloured)
    window = shown(plain.steps, photo.shape[1], photo.shape[0])
    rows, columns = np.indices(before.shape[:2])
    centres = np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5
    covered = contains(centres, window).reshape(before.shape[:2])
    far = ~covered & ~near(covered)
    assert (before[far] == FILL).all()
    assert np.array_equal(after[~covered], before[~covered])
    assert (after[covered] != before[covered]).mean() > 0.5


def near(covered: np.ndarray) -> np.ndarray:
    """The pixels within one of a covered pixel: interpolation reaches them."""
    padded = np.pad(covered, 1)
    height, width = covered.shape
    shifts = [padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    return np.any(shifts, axis=0)


@pytest.mark.parametrize("name", COLOURS)
def test_mild_parameters_are_mild_and_neutral_ones_change_nothing(name: str, photo: np.ndarray) -> None:
    default = render(photo, draw(photo, [{"name": name, "params": SURE}]))
    assert np.abs(default.astype(int) - photo).mean() < 40
    neutral = {
        "color_jitter": {"brightness": [1, 1], "contrast": [1, 1], "saturation": [1, 1]},
        "gamma": {"gamma": [1, 1]},
        "hsv": {"hue_delta_deg": [0, 0], "sat": [1, 1], "val": [1, 1]},
        "sharpness": {"factor": [1, 1]},
        "noise": {"std": [0, 0]},
    }
    if name in neutral:
        same = render(photo, draw(photo, [{"name": name, "params": {**SURE, **neutral[name]}}]))
        assert np.abs(same.astype(int) - photo).max() <= 1


def test_color_jitter_is_brightness_contrast_and_saturation() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    image[:, 4:] = (60, 100, 160)
    grey = image @ np.array([0.299, 0.587, 0.114])

    def jitter(**params: list[float]) -> np.ndarray:
        one = {key: [1.0, 1.0] for key in ("brightness", "contrast", "saturation")}
        return render(image, draw(image, [{"name": "color_jitter", "params": {**SURE, **one, **params}}])).astype(float)

    assert np.abs(jitter(brightness=[1.2, 1.2]) - image * 1.2).max() <= 0.6
    assert np.abs(jitter(contrast=[1.5, 1.5]) - (grey.mean() + (image - grey.mean()) * 1.5)).max() <= 0.6
    assert np.abs(jitter(saturation=[0.0, 0.0]) - grey[..., None]).max() <= 0.6


def test_hue_turns_red_to_green() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200
    params = {**SURE, "hue_delta_deg": [120, 120], "sat": [1, 1], "val": [1, 1]}
    assert render(red, draw(red, [{"name": "hsv", "params": params}]))[0, 0].tolist() == [0, 200, 0]


def test_rendering_is_the_same_in_another_process(photo: np.ndarray) -> None:
    drawn = draw(photo, [{"name": name, "params": SURE} for name in ("rotate", "scale", *COLOURS)])
    here = render(photo, drawn)
    assert np.array_equal(here, render(photo, drawn))
    code = (
        "import pickle, sys, zlib; from dvlm.augmentation.render import render;"
        "image, drawn = pickle.load(sys.stdin.buffer); print(zlib.crc32(render(image, drawn).tobytes()))"
    )
    result = subprocess.run([sys.executable, "-c", code], input=pickle.dumps((photo, drawn)), capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
    assert int(result.stdout) == zlib.crc32(here.tobytes())


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_other_images_are_refused(image: np.ndarray) -> None:
    drawn = Drawn(Annotation(4, 4, Shapes.build([]), ()))
    with pytest.raises(ValueError, match=r"render takes a uint8 image \(height, width, 3\), got"):
        render(image, drawn)


def test_nothing_left_to_see_is_all_fill(photo: np.ndarray) -> None:
    away = Warp(matrix=(1.0, 0.0, 1000.0, 0.0, 1.0, 0.0), width=40, height=30)
    colour = draw(photo, [{"name": "gamma", "params": SURE}]).steps
    drawn = Drawn(Annotation(40, 30, Shapes.build([]), ()), (away, *colour))
    assert (render(photo, drawn) == FILL).all()
