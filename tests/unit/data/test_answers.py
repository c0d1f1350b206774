"""A model's answer read back: what it says, or why it cannot be read, whatever it is."""

import json

import numpy as np
import pytest

from dvlm.data import answers, messages
from dvlm.data.messages import Prompts
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import Annotation, InputError

SIZES = [(640, 480), (333, 77)]


def prompts(norm):
    return Prompts("问", "密", "简", norm, "file")


def annotation(size):
    """One shape of each kind on whole pixels."""
    boxes = [(Kind.BBOX, [3, 4, 60, 70]), (Kind.QUAD, [5, 1, 90, 3, 88, 40, 2, 44]), (Kind.LINE, [0, 0, 7, 9, *size])]
    return Annotation(*size, Shapes.build(boxes), ("甲", "乙/a:b", "丙"))


@pytest.mark.parametrize("norm", ["none", "norm100", "norm1000"])
def test_an_answer_reads_back_to_what_was_written(norm):
    truth = [annotation(size) for size in SIZES]
    written = {messages.image_key(n): messages.objects(t, prompts(norm)) for n, t in enumerate(truth, 1)}
    told = answers.parse(json.dumps(written, ensure_ascii=False), SIZES, prompts(norm))
    again = {messages.image_key(n): messages.objects(t, prompts(norm)) for n, t in enumerate(told, 1)}
    assert again == written
    for one, other in zip(told, truth, strict=True):
        assert (one.width, one.height, one.descs) == (other.width, other.height, other.descs)
        assert np.array_equal(one.shapes.kinds, other.shapes.kinds)
        step = {"none": 0, "norm100": one.width / 100, "norm1000": one.width / 1000}[norm]
        assert np.abs(one.shapes.points - other.shapes.points).max() <= step / 2 + 1e-9


def test_images_without_objects():
    first, second = answers.parse('{"图片_2": [], "图片_1": []}', SIZES, prompts("none"))
    assert (len(first.shapes), len(second.shapes)) == (0, 0)
    assert (first.width, second.width) == (640, 333)


def one(coordinates, key="bbox_2d", desc='"a"'):
    return f'{{"图片_1": [{{"{key}": {coordinates}, "desc": {desc}}}]}}'


BAD = {
    "prose": ("这是一张图片", "not JSON"),
    "cut off": (one("[1, 2")[:-9], "not JSON"),
    "a number": ("3", "expected an object with the keys"),
    "a list": ("[]", "expected an object with the keys"),
    "other keys": ('{"图片_2": []}', "keys are"),
    "too many keys": ('{"图片_1": [], "图片_2": []}', "keys are"),
    "a summary": ('{"图片_1": "标签×1"}', "expected a list of objects"),
    "a bare object": ('{"图片_1": [3]}', "expected one geometry and a desc"),
    "no geometry": ('{"图片_1": [{"desc": "a"}]}', "expected one geometry"),
    "no desc": ('{"图片_1": [{"bbox_2d": [1, 2, 3, 4]}]}', "expected one geometry"),
    "a desc that is no text": (one("[1, 2, 3, 4]", desc="5"), "expected one geometry"),
    "two geometries": (one('[1, 2, 3, 4], "line": [1, 2, 3, 4]'), "expected one geometry"),
    "five numbers": (one("[1, 2, 3, 4, 5]"), "a bbox_2d is .1, 2, 3, 4, 5."),
    "six corners": (one("[1, 2, 3, 4, 5, 6]", "quad"), "a quad is"),
    "an odd line": (one("[1, 2, 3, 4, 5]", "line"), "a line is"),
    "a fraction": (one("[1, 2, 3, 4.5]"), "whole numbers"),
    "NaN": (one("[1, 2, 3, NaN]"), "whole numbers"),
    "a truth": (one("[true, 2, 3, 4]"), "whole numbers"),
    "inside out": (one("[5, 2, 3, 4]"), "x1 <= x2"),
    "endless digits": (one(f"[1, 2, 3, {'9' * 30}]"), "whole numbers"),
    "digits without end": (one(f"[1, 2, 3, {'9' * 5000}]"), "cannot be read"),
    "brackets without end": ("[" * 100_000, "cannot be read"),
}


@pytest.mark.parametrize(("text", "reason"), BAD.values(), ids=BAD.keys())
def test_a_broken_answer_says_why(text, reason):
    with pytest.raises(InputError, match=reason) as caught:
        answers.parse(text, [(64, 48)], prompts("norm1000"))
    assert len(str(caught.value)) < 250


def test_what_a_broken_answer_spells_out_is_readable():
    text = '{"图片_1": [{"bbox_2d": [0, 0, 500, 1000], "desc": "a"}, {"bbox_2d": [1, 2], "desc": "b"}], "图片_2": [{"li'
    first, second = answers.readable(text, [(200, 100), (50, 50)], prompts("norm1000"))
    assert first.descs == ("a",)
    assert first.shapes.of(0).tolist() == [[0, 0], [100, 100]]
    assert second.descs == ()
