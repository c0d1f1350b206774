"""Reading JSONL: what is accepted, and that every bad line is named with its field, its value and what was expected."""

import json
import time

import datakit
import numpy as np
import pytest

from dvlm.data import index, records
from dvlm.data.index import RecordFile
from dvlm.geometry.shapes import Kind
from dvlm.values import InputError

BOX = {"bbox_2d": [1, 2, 3, 4], "desc": "标签"}
DEEP = '{"images": ' + "[" * 100_000 + "]" * 100_000 + "}"
HUGE = "1" + "0" * 400


def objects(*items):
    return datakit.row(objects=list(items))


def text(row, old, new):
    changed = json.dumps(row, ensure_ascii=False).replace(old, new)
    assert new in changed
    return changed


BAD = {
    # name: (line, field, part of the value, part of the expectation)
    "broken json": ('{"images": ["a.png"]', "json", "column 21", "one JSON object a line"),
    "two objects on a line": ("{} {}", "json", "Extra data at column 4", "one JSON object"),
    "a list": ("[1]", "json", "list", "one JSON object"),
    "a literal NaN": (text(objects(BOX), "[1,", "[NaN,"), "json", "NaN", "finite numbers"),
    "a literal Infinity": (text(objects(BOX), "[1,", "[-Infinity,"), "json", "-Infinity", "finite numbers"),
    "1e999": (text(objects(BOX), "[1,", "[1e999,"), "objects[0].bbox_2d", "[Infinity, 2, 3, 4]", "finite numbers"),
    "beyond every float": (text(objects(BOX), "[1,", f"[{HUGE},"), "objects[0].bbox_2d", "[1000", "finite numbers"),
    "too many digits": (text(objects(BOX), "[1,", f"[{'1' * 5000},"), "json", "4300", "standard JSON"),
    "too deep": (DEEP, "json", "recursion", "not too deep"),
    "twice the same key": ('{"width": 1, "width": 2}', "json", "'width' appears twice", "distinct keys"),
    "twice the same key inside": (text(objects(BOX), '"desc"', '"desc": "a", "desc"'), "json", "'desc'", "distinct"),
    "invalid UTF-8": (b'{"images": ["\xff.png"]}', "json", "byte 13 is 0xff", "UTF-8"),
    "half a surrogate pair": (text(objects(BOX), "标签", "\\ud83d"), "json", "\\ud83d", "surrogate"),
    "an unknown field": (datakit.row() | {"widht": 5}, "fields", "widht", "only height, images"),
    "no image": (datakit.row(images=[]), "images", "[]", "one path"),
    "two images": (datakit.row(images=["a.png", "b.png"]), "images", '["a.png", "b.png"]', "one path"),
    "an image as an item": (
        *(datakit.row(images=[{"type": "image", "url": "a.png"}]), "images"),
        *('{"type": "image", "url": "a.png"}', "a list with one path"),
    ),
    "an empty path": (datakit.row(images=[""]), "images", '[""]', "one path"),
    "no width": (datakit.row(width=None), "width", "null", "a whole number of pixels"),
    "no height": (datakit.row(height=0), "height", "0", "from 1"),
    "a width with a fraction": (datakit.row(width=64.0), "width", "64.0", "a whole number"),
    "a width that is no number": (datakit.row(width=True), "width", "true", "a whole number"),
    "an endless width": (text(datakit.row(), "64", HUGE), "width", "1000", "to 1,000,000"),
    "neither objects nor summary": (datakit.row(objects=None, summary=None), "objects", "null", "or a summary"),
    "objects that are no list": (datakit.row(objects=BOX), "objects", "bbox_2d", "a list"),
    "an object that is no object": (objects("a"), "objects[0]", "a", "one geometry and a desc"),
    "no geometry": (objects(BOX, {"desc": "标签"}), "objects[1]", "[]", "exactly one geometry"),
    "two geometries": (
        *(objects(BOX, BOX | {"quad": [0, 0, 9, 0, 9, 9, 0, 9]}), "objects[1]"),
        *('["bbox_2d", "quad"]', "exactly one geometry of bbox_2d, quad, line"),
    ),
    "a misspelt geometry": (objects({"bbox": [1, 2, 3, 4], "desc": "a"}), "objects[0]", '["bbox"]', "bbox_2d"),
    "coordinates as text": (objects(BOX | {"bbox_2d": "1,2,3,4"}), "objects[0].bbox_2d", "1,2,3,4", "finite numbers"),
    "a coordinate as text": (objects(BOX | {"bbox_2d": [1, 2, 3, "4"]}), "objects[0].bbox_2d", '"4"', "finite"),
    "a true coordinate": (objects(BOX | {"bbox_2d": [True, 2, 3, 4]}), "objects[0].bbox_2d", "true", "finite"),
    "three coordinates": (objects(BOX | {"bbox_2d": [1, 2, 3]}), "objects[0].bbox_2d", "[1, 2, 3]", "4 numbers"),
    "a box inside out": (objects(BOX | {"bbox_2d": [3, 2, 1, 4]}), "objects[0].bbox_2d", "[3, 2, 1, 4]", "x1 <= x2"),
    "six corners": (objects({"quad": [1] * 6, "desc": "a"}), "objects[0].quad", "[1, 1", "8 numbers"),
    "a line of one point": (objects({"line": [1, 2], "desc": "a"}), "objects[0].line", "[1, 2]", "at least 4"),
    "an odd line": (objects({"line": [1, 2, 3, 4, 5], "desc": "a"}), "objects[0].line", "[1, 2", "even number"),
    "line_points": (
        *(objects({"line": [1, 2, 3, 4], "line_points": 3, "desc": "a"}), "objects[0].line_points"),
        *("3", "2, on a line only"),
    ),
    "line_points of a box": (objects(BOX | {"line_points": 2}), "objects[0].line_points", "2", "on a line only"),
    "no description": (objects({"bbox_2d": [1, 2, 3, 4]}), "objects[0].desc", "null", "a non-empty text"),
    "a blank description": (objects(BOX | {"desc": " "}), "objects[0].desc", " ", "a non-empty text"),
    "a special token in a description": (
        *(objects(BOX, BOX | {"desc": "标签\n" * 90 + "<|im_end|>"}), "objects[1].desc"),
        *("<|im_end|>", "no special token"),
    ),
    "a special token in a summary": (datakit.row(summary="a<|image_pad|>"), "summary", "a<|image_pad|>", "no special"),
    "an empty summary": (datakit.row(summary=""), "summary", "", "a non-empty text"),
    "a summary that is no text": (datakit.row(summary=["a"]), "summary", '["a"]', "a non-empty text"),
}


@pytest.mark.parametrize(("line", "field", "value", "expected"), BAD.values(), ids=BAD.keys())
def test_a_bad_line_is_named(tmp_path, line, field, value, expected):
    file = datakit.write(tmp_path / "记录.jsonl", datakit.row(), "", line, datakit.row())
    with pytest.raises(InputError) as caught:
        list(RecordFile(file))
    message = str(caught.value)
    assert message.startswith(f"{file}:3: {field}: ")
    shown, _, wanted = message.removeprefix(f"{file}:3: {field}: ").partition("; expected ")
    assert value in shown
    assert expected in wanted
    assert len(message.splitlines()) == 1
    message.encode()


def test_a_good_record_keeps_everything(tmp_path):
    quad, cable = [1, 1, 9, 2, 8, 9, 0, 8], [0, 0, 5, 5, 9, 0]
    items = [
        {"bbox_2d": [1, 2.5, 3, 4], "desc": "BBU设备/品牌:华为"},
        {"line": cable, "line_points": 3, "desc": "线缆"},
        {"quad": quad, "desc": "标签"},
    ]
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(objects=items, summary="线缆×1"))
    (record,) = list(RecordFile(file))
    assert (record.file, record.line, record.place) == (file, 1, f"{file}:1")
    assert record.image == tmp_path / "a.png"
    assert (record.width, record.height, record.summary) == (64, 48, "线缆×1")
    shapes = record.objects.shapes
    assert [shapes.kind(i) for i in range(3)] == [Kind.BBOX, Kind.LINE, Kind.QUAD]
    assert [shapes.of(i).reshape(-1).tolist() for i in range(3)] == [[1, 2.5, 3, 4], cable, quad]
    assert record.objects.descs == ("BBU设备/品牌:华为", "线缆", "标签")
    assert (record.objects.width, record.objects.height) == (64, 48)


def test_absent_and_empty_objects_differ(tmp_path):
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(objects=None), datakit.row(objects=[], summary=None))
    only_summary, only_objects = list(RecordFile(file))
    assert only_summary.objects is None
    assert only_objects.summary is None
    assert len(only_objects.objects.shapes) == 0
    assert np.array_equal(only_objects.objects.shapes.bounds, np.zeros((0, 4)))


def test_an_absolute_path_stays(tmp_path):
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(image="/elsewhere/图.jpg"))
    assert str(list(RecordFile(file))[0].image) == "/elsewhere/图.jpg"


def test_byte_order_mark_windows_ends_and_blank_lines(tmp_path):
    line = json.dumps(datakit.row(), ensure_ascii=False).encode()
    file = datakit.write(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + line + b"\r", b"  \r", line + b"\r")
    assert [record.line for record in list(RecordFile(file))] == [1, 3]


def test_a_byte_order_mark_further_down_is_an_error(tmp_path):
    line = b"\xef\xbb\xbf" + json.dumps(datakit.row()).encode()
    with pytest.raises(InputError, match=":2: json"):
        list(RecordFile(datakit.write(tmp_path / "a.jsonl", datakit.row(), line)))


def test_escaped_characters_are_text(tmp_path):
    file = datakit.write(tmp_path / "a.jsonl", json.dumps(datakit.row(summary="标签😀"), ensure_ascii=True))
    assert list(RecordFile(file))[0].summary == "标签😀"


def test_a_limit_reads_no_further(tmp_path):
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(), datakit.row(), "broken")
    assert len(list(RecordFile(file, limit=2))) == 2
    with pytest.raises(InputError, match=":3: json"):
        list(RecordFile(file, limit=3))


def test_an_empty_file(tmp_path):
    with pytest.raises(InputError, match="a.jsonl: no records"):
        list(RecordFile(datakit.write(tmp_path / "a.jsonl", "", " ")))


@pytest.mark.parametrize(("name", "reason"), [("missing.jsonl", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_opened(tmp_path, name, reason):
    with pytest.raises(InputError, match=f"cannot be read: {reason}.*data.train_jsonl"):
        list(RecordFile(tmp_path / name))


def test_records_and_dialogues_do_not_mix(tmp_path):
    talk = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    with pytest.raises(
        InputError, match=r"a.jsonl:2: messages: a dialogue among records; expected records or dialogues"
    ):
        list(RecordFile(datakit.write(tmp_path / "a.jsonl", datakit.row(), talk)))


@pytest.mark.parametrize("seed", range(20))
def test_a_file_read_at_once_and_one_read_by_index_have_the_same_lines(tmp_path, seed):
    dice = np.random.default_rng(seed)
    good = json.dumps(datakit.row(), ensure_ascii=False).encode()
    kinds = [good, b" " + good + b"\t", good + b"\r", b"", b"  \t", b"\r"]
    chosen = [good, *(kinds[i] for i in dice.integers(0, len(kinds), 12))]
    content = (b"\xef\xbb\xbf" if seed % 2 else b"") + b"\n".join(chosen) + b"\n" * int(dice.integers(0, 3))
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    by_index = RecordFile(file)
    assert [part.line for part in by_index] == [number for number, _ in records.lines(file)]
    assert [by_index[i].line for i in reversed(range(len(by_index)))] == [n for n, _ in records.lines(file)][::-1]


def test_any_depth_is_named(tmp_path):
    """What can just be read cannot always be shown."""
    for depth in (2, 100, *range(800, 1010)):
        file = datakit.write(tmp_path / "a.jsonl", '{"images": ' + "[" * depth + "]" * depth + "}")
        with pytest.raises(InputError, match=rf"^{file}:1: (json|images): .*; expected "):
            RecordFile(file)[0]


def test_many_keys_take_no_time(tmp_path):
    """A line of a hundred thousand keys is not compared key by key."""
    keys = {f"key {number}": 1 for number in range(100_000)}
    file = datakit.write(tmp_path / "a.jsonl", keys, json.dumps(keys)[:-1] + ', "key 7": 1}')
    started = time.process_time()
    with pytest.raises(InputError, match=":1: fields"):
        RecordFile(file)[0]
    with pytest.raises(InputError, match=":2: json: key 'key 7' appears twice"):
        RecordFile(file)[1]
    assert time.process_time() - started < 20


@pytest.mark.parametrize("read", ["index", "lines"])
def test_a_line_is_bounded(tmp_path, monkeypatch, read):
    monkeypatch.setattr(records, "LONGEST_LINE", 1000)
    monkeypatch.setattr(index, "LONGEST_LINE", 1000)
    good = json.dumps(datakit.row(), ensure_ascii=False).encode()
    spaces = good[:-1] + b" " * (1000 - len(good)) + b"}"
    assert len(spaces) == 1000
    file = datakit.write(tmp_path / "a.jsonl", good, spaces, good[:-1] + b" " * 5000 + b"}", good)
    found = RecordFile(file)
    if read == "index":
        assert [found[i].line for i in (0, 1, 3)] == [1, 2, 4]
        with pytest.raises(InputError, match=f"{file}:3: json: a line of more than 1,000 bytes"):
            found[2]
    else:
        numbered = records.lines(file)
        assert [records.parse(file, *next(numbered)).line for _ in range(2)] == [1, 2]
        with pytest.raises(InputError, match=f"{file}:3: json: a line of more than 1,000 bytes"):
            records.parse(file, *next(numbered))
