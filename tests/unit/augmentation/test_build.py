"""From YAML to ops: every mistake is named by its key."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dvlm.augmentation.op import OPS, Op, register
from dvlm.augmentation.pipeline import Pipeline

PRESETS = sorted((Path(__file__).parents[3] / "conf" / "augmentation").glob("*.yaml"))
NAMES = {
    *("hflip", "vflip", "rotate", "scale"),
    *("expand_to_fit_affine", "resize_by_scale", "pad_to_multiple", "random_crop"),
    *("color_jitter", "gamma", "hsv", "clahe", "sharpness", "auto_contrast", "blur", "noise"),
}
BAD_VALUES = [
    ("hflip", {"prob": 1.5}, "prob must be a number in [0, 1], got 1.5"),
    ("hflip", {"prob": "0.3"}, "prob must be a number in [0, 1], got '0.3'"),
    ("vflip", {"prob": True}, "prob must be a number in [0, 1], got True"),
    ("hflip", {"skip_if_desc": "左"}, "skip_if_desc must be a list of words, got '左'"),
    ("vflip", {"skip_if_desc": [""]}, "skip_if_desc must be a list of words, got ['']"),
    ("rotate", {"max_deg": -1}, "max_deg must be a number in [0, 180], got -1"),
    ("rotate", {"max_deg": float("nan")}, "max_deg must be a number in [0, 180], got nan"),
    ("scale", {"lo": 0}, "lo must be a number in [0.05, 20], got 0"),
    ("scale", {"lo": 1.2, "hi": 1.1}, "lo must be at most hi, 1.1, got 1.2"),
    ("resize_by_scale", {"lo": 2, "hi": 1}, "lo must be at most hi, 1, got 2"),
    ("resize_by_scale", {"align_multiple": 0}, "align_multiple must be a whole number of at least 1, got 0"),
    ("pad_to_multiple", {"multiple": 32.0}, "multiple must be a whole number of at least 1, got 32.0"),
    ("pad_to_multiple", {"max_pixels": 1000}, "max_pixels must be a whole number of at least 1024, got 1000"),
    ("expand_to_fit_affine", {"multiple": -1}, "multiple must be a whole number of at least 1, got -1"),
    ("random_crop", {"scale": [0.9, 0.5]}, "scale must be [low, high] in [0.01, 1], got [0.9, 0.5]"),
    ("random_crop", {"scale": 0.8}, "scale must be [low, high] in [0.01, 1], got 0.8"),
    ("random_crop", {"aspect_ratio": [0, 1]}, "aspect_ratio must be [low, high] in [0.1, 10], got [0, 1]"),
    ("random_crop", {"min_coverage": 2}, "min_coverage must be a number in [0, 1], got 2"),
    ("random_crop", {"completeness_threshold": -1}, "completeness_threshold must be a number in [0, 1], got -1"),
    ("random_crop", {"min_objects": 1.5}, "min_objects must be a whole number of at least 0, got 1.5"),
    ("random_crop", {"skip_if_line": 1}, "skip_if_line must be true or false, got 1"),
    ("random_crop", {"complete": ""}, "complete must be a word, got ''"),
    ("random_crop", {"partial": 3}, "partial must be a word, got 3"),
    ("color_jitter", {"brightness": [0.5]}, "brightness must be [low, high] in [0, 4], got [0.5]"),
    ("color_jitter", {"contrast": [1, 5]}, "contrast must be [low, high] in [0, 4], got [1, 5]"),
    ("color_jitter", {"saturation": ["a", "b"]}, "saturation must be [low, high] in [0, 4], got ['a', 'b']"),
    ("gamma", {"gamma": [0, 1]}, "gamma must be [low, high] in [0.1, 10], got [0, 1]"),
    ("hsv", {"hue_delta_deg": [-200, 0]}, "hue_delta_deg must be [low, high] in [-180, 180], got [-200, 0]"),
    ("hsv", {"sat": [-1, 1]}, "sat must be [low, high] in [0, 4], got [-1, 1]"),
    ("hsv", {"val": None}, "val must be [low, high] in [0, 4], got None"),
    ("clahe", {"clip_limit": 0.5}, "clip_limit must be a number in [1, 100], got 0.5"),
    ("clahe", {"tile_grid_size": [8]}, "tile_grid_size must be [columns, rows], got [8]"),
    ("sharpness", {"factor": [-1, 1]}, "factor must be [low, high] in [0, 10], got [-1, 1]"),
    ("auto_contrast", {"cutoff": 60}, "cutoff must be a number in [0, 49], got 60"),
    ("blur", {"sigma": [0, 1]}, "sigma must be [low, high] in [0.1, 50], got [0, 1]"),
    ("noise", {"std": [1, 200]}, "std must be [low, high] in [0, 128], got [1, 200]"),
]


def test_every_op_of_the_reference_is_there() -> None:
    assert NAMES <= set(OPS)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_defaults_are_valid_and_small_values(name: str) -> None:
    op = Pipeline.build([{"name": name}]).ops[0]
    assert pickle.loads(pickle.dumps(op)) == op  # noqa: S301
    assert hash(op) == hash(OPS[name]())


@pytest.mark.parametrize(("name", "params", "message"), BAD_VALUES)
def test_bad_values(name: str, params: dict, message: str) -> None:
    expected = f"augmentation.ops[1].params.{message} (op {name})"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        Pipeline.build([{"name": "pad_to_multiple"}, {"name": name, "params": params}])


def test_every_op_has_a_tested_error() -> None:
    assert {name for name, _, _ in BAD_VALUES} == NAMES


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ([{"name": "hflop"}], "augmentation.ops[0].name: there is no op 'hflop'; did you mean 'hflip'?"),
        ([{"name": "zzz"}], "augmentation.ops[0].name: there is no op 'zzz'; known: auto_contrast, blur, clahe,"),
        (
            [{"name": "rotate"}, {"name": "hflip", "params": {"prb": 0.3}}],
            "augmentation.ops[1].params.prb: hflip has no such parameter; did you mean 'prob'?",
        ),
        (
            [{"name": "rotate", "params": {"xyz": 3}}],
            "augmentation.ops[0].params.xyz: rotate has no such parameter; known: max_deg, prob",
        ),
        ([{"name": "hflip", "param": {}}], "augmentation.ops[0].param: an op has no such key; did you mean 'params'?"),
        ([{"params": {}}], "augmentation.ops[0] must be a mapping with `name`"),
        (["hflip"], "augmentation.ops[0] must be a mapping with `name`"),
        ([{"name": "hflip", "params": [0.3]}], "augmentation.ops[0].params must be a mapping of hflip's parameters"),
    ],
)
def test_unknown_keys(ops: list, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Pipeline.build(ops)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_bypass_prob_is_a_probability(value: float) -> None:
    with pytest.raises(ValueError, match=r"augmentation.bypass_prob must be in \[0, 1\]"):
        Pipeline.build([], bypass_prob=value)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="the op 'hflip' is registered twice: HFlip and Other"):

        @register("hflip")
        class Other(Op):
            pass


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_build_and_say_when_to_use_them(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert "@package" not in text
    Pipeline.build(**yaml.safe_load(text))


def test_all_presets_are_there() -> None:
    assert {path.stem for path in PRESETS} >= {"none", "dense", "summary", "conservative"}


def test_building_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dvlm.augmentation.pipeline import Pipeline;"
        "Pipeline.build([{'name': 'clahe'}, {'name': 'rotate'}]);"
        "print([name for name in ('torch', 'albumentations', 'cv2') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
