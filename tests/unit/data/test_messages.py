"""The messages of a hand-written turn, to the letter."""

import json
from pathlib import Path

import pytest

from dvlm.config.compose import compose
from dvlm.data import messages
from dvlm.data.messages import Prompts
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import Annotation, Dialogue, Drawn, InputError, Mode, Record, Turn

# 200x100: a box low on the right, a quad above it, a line that begins left of the quad at the same height.
SHAPES = Shapes.build(
    [
        (Kind.BBOX, [100, 50.4, 150.6, 100]),
        (Kind.QUAD, [20, 10, 60, 12, 58, 30, 18, 28]),
        (Kind.LINE, [10, 90, 31, 10, 199.9, 20]),
    ]
)
FIRST = Annotation(200, 100, SHAPES, ("BBU设备/品牌:华为", '标签/文字:"A"', "线缆"))
SECOND = Annotation(40, 30, Shapes.build([]), ())
RECORDS = tuple(
    Record(Path("a.jsonl"), n, Path(f"/图/{n}.png"), a.width, a.height, a, summary)
    for n, a, summary in ((1, FIRST, "BBU设备×1/标签×1"), (2, SECOND, "无"))
)
DRAWN = (Drawn(FIRST), Drawn(SECOND))


def prompts(norm="norm1000", order="file"):
    return Prompts("请描述", "密集", "摘要", norm, order)


COORDINATES = {
    "none": ("[100, 50, 151, 100]", "[20, 10, 60, 12, 58, 30, 18, 28]", "[10, 90, 31, 10, 200, 20]"),
    "norm100": ("[50, 50, 75, 100]", "[10, 10, 30, 12, 29, 30, 9, 28]", "[5, 90, 16, 10, 100, 20]"),
    "norm1000": ("[500, 504, 753, 1000]", "[100, 100, 300, 120, 290, 300, 90, 280]", "[50, 900, 155, 100, 1000, 200]"),
}


def written(norm, order):
    box, quad, line = COORDINATES[norm]
    items = [
        f'{{"bbox_2d": {box}, "desc": "BBU设备/品牌:华为"}}',
        f'{{"quad": {quad}, "desc": "标签/文字:\\"A\\""}}',
        f'{{"line": {line}, "desc": "线缆"}}',
    ]
    return f'{{"图片_1": [{", ".join(items[i] for i in order)}], "图片_2": []}}'


@pytest.mark.parametrize("norm", ["none", "norm100", "norm1000"])
@pytest.mark.parametrize(("order", "indices"), [("file", (0, 1, 2)), ("top_left", (2, 1, 0))])
def test_a_dense_turn(norm, order, indices):
    turn = Turn(0, 0, Mode.DENSE, RECORDS)
    assert messages.build(turn, DRAWN, prompts(norm, order)) == [
        {"role": "system", "content": [{"type": "text", "text": "密集"}]},
        {
            "role": "user",
            "content": [
                {"type": "image", "image": "/图/1.png"},
                {"type": "image", "image": "/图/2.png"},
                {"type": "text", "text": "请描述"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": written(norm, indices)}]},
    ]


def test_a_summary_turn_asks_otherwise_and_answers_in_lines():
    turn = Turn(0, 0, Mode.SUMMARY, RECORDS)
    system, user, assistant = messages.build(turn, DRAWN, prompts())
    assert system["content"] == [{"type": "text", "text": "摘要"}]
    assert user["content"][-1] == {"type": "text", "text": "请描述"}
    assert assistant["content"] == [{"type": "text", "text": '{"图片_1": "BBU设备×1/标签×1", "图片_2": "无"}'}]


def test_the_answer_is_of_the_drawn_image_not_of_the_record():
    moved = Annotation(400, 400, SHAPES.take([2]), ("电缆",))
    turn = Turn(0, 0, Mode.DENSE, RECORDS[:1])
    answer = messages.answer(turn, (Drawn(moved),), prompts())
    assert json.loads(answer) == {"图片_1": [{"line": [25, 225, 78, 25, 500, 50], "desc": "电缆"}]}


def test_coordinates_stay_in_range_and_whole():
    outside = Annotation(10, 10, Shapes.build([(Kind.BBOX, [-1, -0.4, 11, 10.4])]), ("a",))
    for norm, top in (("none", 10), ("norm100", 100), ("norm1000", 1000)):
        (item,) = messages.objects(outside, prompts(norm))
        assert item["bbox_2d"] == [0, 0, top, top]
        assert {type(value) for value in item["bbox_2d"]} == {int}


def test_equal_places_keep_the_order_of_the_file():
    boxes = Shapes.build([(Kind.BBOX, [5, 5, 9, 9]), (Kind.BBOX, [5, 5, 6, 6]), (Kind.BBOX, [4, 5, 6, 6])])
    items = messages.objects(Annotation(10, 10, boxes, ("a", "b", "c")), prompts(order="top_left"))
    assert [item["desc"] for item in items] == ["c", "a", "b"]


def test_a_dialogue_is_its_own_messages():
    said = ({"role": "user", "content": []}, {"role": "assistant", "content": []})
    turn = Turn(0, 0, None, (), Dialogue(Path("a.jsonl"), 1, (), said))
    assert messages.build(turn, (), prompts()) == list(said)


@pytest.mark.parametrize("name", ["user", "system_dense", "system_summary"])
def test_a_special_token_in_a_prompt(name):
    with pytest.raises(InputError, match=f"prompt {name}: .*<.image_pad.>.* special token"):
        Prompts(**(vars(prompts()) | {name: "看<|image_pad|>"}))


def test_prompts_are_kept_with_a_checkpoint(tmp_path):
    kept = prompts("norm100", "top_left")
    kept.save(tmp_path)
    assert "请描述" in (tmp_path / "prompts.json").read_text(encoding="utf-8")
    assert Prompts.load(tmp_path) == kept


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("data.emit_norm", "norm10", "norm100"),
        ("data.object_order", "top-left", "top_left"),
        ("data.truncation", "cut", "drop"),
        ("data.verify_images", "none", "header"),
    ],
)
def test_an_unknown_choice_names_a_known_one(key, value, right):
    with pytest.raises(InputError) as caught:
        compose("train", [f"{key}={value}"])
    assert f"{key} is '{value}'" in str(caught.value)
    assert right in str(caught.value).partition(value)[2]
