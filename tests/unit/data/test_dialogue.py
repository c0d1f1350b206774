"""JSONL in messages form: what is normalised, and that nothing is skipped in silence."""

import datakit
import pytest

from dvlm.data.index import RecordFile
from dvlm.values import Dialogue, InputError

ASK = {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "什么?"}]}
ANSWER = {"role": "assistant", "content": "标签"}


def talk(*content, images=(), answer=ANSWER):
    """A dialogue of one round: a text, or the items of the question."""
    question = content[0] if isinstance(content[0], str) else list(content)
    listed = {"images": list(images)} if images else {}
    return {"messages": [{"role": "user", "content": question}, answer], **listed}


def read(tmp_path, row) -> Dialogue:
    return list(RecordFile(datakit.write(tmp_path / "a.jsonl", row)))[0]


def test_items_texts_and_marks_come_out_alike(tmp_path):
    spellings = [
        {"messages": [ASK, ANSWER]},
        {"messages": [ASK, ANSWER], "images": ["a.png"]},
        talk("<image>什么?", images=["a.png"]),
        talk({"type": "image_url", "image_url": "a.png"}, {"type": "text", "text": "什么?"}),
        talk({"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "text", "text": "什么?"}),
    ]
    read_back = list(RecordFile(datakit.write(tmp_path / "a.jsonl", *spellings)))
    wanted = ({"role": "user", "content": ASK["content"]}, {"role": "assistant", "content": [text("标签")]})
    for number, dialogue in enumerate(read_back, 1):
        assert dialogue == Dialogue(tmp_path / "a.jsonl", number, (tmp_path / "a.png",), wanted)


def text(value):
    return {"type": "text", "text": value}


def test_marks_take_the_images_in_order(tmp_path):
    dialogue = read(tmp_path, talk("左<image>右<image>", images=["b.png", "a.png"]))
    assert [path.name for path in dialogue.images] == ["b.png", "a.png"]
    assert dialogue.messages[0]["content"] == [
        text("左"),
        {"type": "image", "image": "b.png"},
        text("右"),
        {"type": "image", "image": "a.png"},
    ]


def test_two_rounds_and_a_system_message(tmp_path):
    rows = [{"role": "system", "content": "你是助手"}, ASK, ANSWER, {"role": "user", "content": "还有?"}, ANSWER]
    dialogue = read(tmp_path, {"messages": rows})
    assert [message["role"] for message in dialogue.messages] == ["system", *["user", "assistant"] * 2]


def test_a_dialogue_may_have_no_image(tmp_path):
    assert read(tmp_path, talk("你好")).images == ()


BAD = {
    "image with another key": (
        *(talk({"type": "image", "url": "a.png"}), "messages[0].content[0]"),
        *('{"type": "image", "url": "a.png"}', "key equals type"),
    ),
    "no type": (talk({"image": "a.png"}), "messages[0].content[0]", '{"image": "a.png"}', "key equals type"),
    "a video": (talk({"type": "video", "video": "a.mp4"}), "messages[0].content[0]", "video", "key equals type"),
    "image_url without url": (
        *(talk({"type": "image_url", "image_url": {"uri": "a"}}), "messages[0].content[0]"),
        *('"image": null', "key equals type"),
    ),
    "an item that is none": (talk(5), "messages[0].content[0]", "5", "key equals type"),
    "an address": (talk({"type": "image", "image": "https://a/b.png"}), "messages[0].content[0]", "https", "a path"),
    "image data": (
        talk({"type": "image_url", "image_url": "data:image/png;base64,iVBO"}),
        *("messages[0].content[0]",),
        *("data:", "a path"),
    ),
    "more marks than images": (talk("<image><image>", images=["a.png"]), "messages[0].content", "<image>", "as many"),
    "more images than marks": (talk("<image>", images=["a.png", "b.png"]), "images", '["b.png"]', "for each path"),
    "images and no mark": (talk("什么?", images=["a.png"]), "images", '["a.png"]', "one <image> or image item"),
    "a mark among items": (talk(text("<image>什么?")), "messages[0].content[0]", "<image>什么?", "an item of its own"),
    "other images than items": (
        *({"messages": [ASK, ANSWER], "images": ["b.png"]}, "images", '["b.png"]', "for each path"),
    ),
    "images that are no list": ({"messages": [ASK, ANSWER], "images": "a.png"}, "images", "a.png", "a list of paths"),
    "a special token": (talk("看" * 500 + "<|image_pad|>"), "messages[0].content", "看<|image_pad|>", "no special"),
    "a special token in an answer": (
        *(talk("a", answer={"role": "assistant", "content": [text("<|im_end|>")]}), "messages[1].content[0]"),
        *("<|im_end|>", "no special token"),
    ),
    "an unknown field": ({"messages": [ASK, ANSWER], "objects": []}, "fields", '["objects"]', "only messages"),
    "no messages": ({"messages": []}, "messages", "[]", "a non-empty list"),
    "an unknown role": ({"messages": [{"role": "tool", "content": "a"}, ANSWER]}, "messages[0]", "tool", "a role"),
    "no content": ({"messages": [{"role": "user"}, ANSWER]}, "messages[0]", "user", "and a content"),
    "a number as content": (
        {"messages": [{"role": "user", "content": 5}, ANSWER]},
        "messages[0].content",
        "5",
        "a text",
    ),
    "no answer": ({"messages": [ASK]}, "messages", '["user"]', "user and assistant in turns"),
    "the answer first": ({"messages": [ANSWER, ASK]}, "messages", '["assistant", "user"]', "in turns"),
    "system only": ({"messages": [{"role": "system", "content": "a"}]}, "messages", '["system"]', "in turns"),
    "an image in an answer": (
        *(talk("a", answer={"role": "assistant", "content": [{"type": "image", "image": "a.png"}]}), "messages[1]"),
        *("image", "user messages only"),
    ),
}


@pytest.mark.parametrize(("row", "field", "value", "expected"), BAD.values(), ids=BAD.keys())
def test_a_bad_dialogue_is_named(tmp_path, row, field, value, expected):
    file = datakit.write(tmp_path / "对话.jsonl", {"messages": [ASK, ANSWER]}, row)
    with pytest.raises(InputError) as caught:
        list(RecordFile(file))
    message = str(caught.value)
    assert message.startswith(f"{file}:2: {field}: ")
    shown, _, wanted = message.removeprefix(f"{file}:2: {field}: ").partition("; expected ")
    assert value in shown
    assert expected in wanted
