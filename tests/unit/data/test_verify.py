"""What must hold before training: images that are there and fit their records, and records that fit their mode."""

import json
from dataclasses import replace

import datakit
import numpy as np
import pytest
from PIL import Image

from dvlm.config import SourceConfig
from dvlm.data import verify
from dvlm.data.files import groups
from dvlm.data.index import RecordFile
from dvlm.values import InputError


def first_error(file, **changes):
    """The message of the error that stops a run, less `file:`."""
    with pytest.raises(InputError) as caught:
        verify.check(list(RecordFile(file)), datakit.config(**changes))
    return str(caught.value).removeprefix(f"{file}:")


def rotated(path):
    """64x48 as stored, to be shown as 48x64."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return datakit.picture(path, exif=exif)


def truncated(path):
    datakit.picture(path, 200, 150)
    path.write_bytes(path.read_bytes()[:-3000])


def test_good_records_pass(tmp_path):
    rotated(tmp_path / "r.jpg")
    rows = [datakit.row(), datakit.row(image="r.jpg", width=48, height=64, objects=[])]
    verify.check(list(RecordFile(datakit.write(tmp_path / "a.jsonl", *rows))), datakit.config(verify_images="full"))


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        (datakit.row(image="没有.jpg"), {}, "2: images: {folder}/没有.jpg does not exist; expected an image file"),
        (datakit.row(width=65), {}, "2: width, height: 65x48; expected the size of the image, 64x48 ({folder}/a.png)"),
        (datakit.row(width=48, height=64), {}, "2: width, height: 48x64; expected the size of the image, 64x48"),
        (datakit.row(image="r.jpg"), {}, "2: width, height: 64x48; expected the size of the image, 48x64"),
        (
            datakit.row(image="t.jpg", width=200, height=150),
            {},
            "2: images: {folder}/t.jpg cannot be read: image file is",
        ),
        (datakit.row(summary=None), {"summary_ratio": 0.1}, "2: summary: null; expected a summary, since data.summary"),
        (datakit.row(objects=None), {"summary_ratio": 0.9}, "2: objects: null; expected objects, since data.summary_r"),
        (
            datakit.row(image="thin.png", width=202, height=1, objects=[]),
            {},
            "2: images: {folder}/thin.png of 202x1; exp",
        ),
    ],
    ids=["missing", "size", "sides swapped", "exif", "truncated", "summary", "objects", "thin"],
)
def test_a_bad_record_stops_the_run(tmp_path, row, changes, message):
    rotated(tmp_path / "r.jpg")
    truncated(tmp_path / "t.jpg")
    datakit.picture(tmp_path / "thin.png", 202, 1)
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(), row)
    assert first_error(file, **changes).startswith(message.format(folder=tmp_path))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_only_the_modes_that_occur_need_their_field(tmp_path, ratio):
    row = datakit.row(summary=None) if ratio == 0 else datakit.row(objects=None)
    verify.check(list(RecordFile(datakit.write(tmp_path / "a.jsonl", row))), datakit.config(summary_ratio=ratio))


@pytest.mark.parametrize(
    "item",
    [
        {"bbox_2d": [0, 0, 640, 480]},
        {"bbox_2d": [-1.5, 0, 9, 9]},
        {"quad": [0, 0, 9, 0, 9, 9, 0, 49.5]},
        {"line": [0, 0, 70, 9]},
    ],
)
def test_coordinates_outside_the_image(tmp_path, item):
    file = datakit.write(
        tmp_path / "a.jsonl", datakit.row(objects=[{"line": [0, 0, 1, 1], "desc": "a"}, item | {"desc": "b"}])
    )
    ((key, flat),) = item.items()
    shown = json.dumps([float(value) for value in flat])
    assert first_error(file) == f"1: objects[1].{key}: {shown}; expected pixels inside the image of 64x48"


def test_labelling_tools_may_round(tmp_path):
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(objects=[{"bbox_2d": [-1, -0.5, 65, 49], "desc": "a"}]))
    verify.check(list(RecordFile(file)), datakit.config())


def test_dialogues_have_images_too(tmp_path):
    talk = {
        "messages": [{"role": "user", "content": "<image>a"}, {"role": "assistant", "content": "b"}],
        "images": ["x.png"],
    }
    file = datakit.write(tmp_path / "a.jsonl", talk)
    assert first_error(file).startswith(f"1: images: {tmp_path / 'x.png'} does not exist")


def test_how_much_of_the_images_is_read(tmp_path):
    truncated(tmp_path / "t.jpg")
    parts = list(RecordFile(datakit.write(tmp_path / "a.jsonl", datakit.row(image="t.jpg", width=200, height=150))))
    verify.check(parts, datakit.config(verify_images="header"))
    with pytest.raises(InputError, match="truncated"):
        verify.check(parts, datakit.config(verify_images="full"))
    auto = datakit.config(verify_images="auto")
    assert verify.decodes(auto, 2000)
    assert not verify.decodes(auto, 2001)


def test_what_the_header_hides_is_named_when_it_is_met(tmp_path, tiny):
    truncated(tmp_path / "t.jpg")
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(image="t.jpg", width=200, height=150))
    with pytest.raises(InputError, match=rf"{file}:1: images: {tmp_path}/t.jpg cannot be read: .*truncated"):
        datakit.line(list(RecordFile(file)), tiny).sample(0, 0)


def test_every_bad_line_is_listed(tmp_path):
    talk = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    rows = [
        datakit.row(),
        "broken",
        b"\xff",
        datakit.row(image="x.png", summary=None),
        talk,
        datakit.row(width=1, objects=[]),
        talk,
        datakit.row(objects=[{"bbox_2d": [0, 0, 99, 99], "desc": "a"}, {"line": [-9, 0, 1, 1], "desc": "b"}]),
        datakit.row(),
    ]
    file = datakit.write(tmp_path / "a.jsonl", *rows)
    listed = [
        str(error).removeprefix(f"{file}:") for error in verify.bad_lines(file, datakit.config(summary_ratio=0.5))
    ]
    assert [message.split(": ")[0:2] for message in listed] == [
        ["2", "json"],
        ["3", "json"],
        ["4", "summary"],
        ["4", "images"],
        ["5", "messages"],
        ["6", "width, height"],
        ["7", "messages"],
        ["8", "objects[0].bbox_2d"],
        ["8", "objects[1].line"],
    ]


def test_each_bad_object_of_a_record_is_listed(tmp_path):
    good = {"bbox_2d": [4, 5, 30, 40], "desc": "a"}
    objects = [{"bbox_2d": [4, 5], "desc": "a"}, good, "b", {"quad": [1] * 7, "desc": "c"}, good | {"desc": " "}]
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(objects=objects), datakit.row())
    listed = list(verify.bad_lines(file, datakit.config()))
    names = ["objects[0].bbox_2d", "objects[2]", "objects[3].quad", "objects[4].desc"]
    assert [str(error).removeprefix(f"{file}:1: ").split(": ")[0] for error in listed] == names
    assert [error.field for error in listed] == ["objects.bbox_2d", "objects", "objects.quad", "objects.desc"]


def with_summary(record):
    """A preprocessor: leaves out what has none."""
    return record if record.summary else None


def wide(record):
    return replace(record, width=record.width + 1)


def test_each_file_is_checked_as_training_sees_it(tmp_path):
    """By its source's own ratio, and after the preprocessors."""
    rows = (datakit.row(), datakit.row(summary=None), datakit.row(objects=None))
    named = {name: str(datakit.write(tmp_path / f"{name}.jsonl", *rows)) for name in ("a", "b")}
    sources = [
        SourceConfig(name, file, summary_ratio=ratio)
        for (name, file), ratio in zip(named.items(), (0.5, 1.0), strict=True)
    ]

    def listed(*preprocessors):
        names = [f"{__name__}:{name}" for name in preprocessors]
        data = datakit.config(train_jsonl=None, val_jsonl=named["a"], sources=sources, preprocessors=names)
        errors = (error for file, group in groups(data) for error in verify.bad_lines(file, group))
        return [str(error).removeprefix(f"{tmp_path}/").split(": ")[:2] for error in errors]

    val = [["a.jsonl:3", "objects"]]
    both = [["a.jsonl:2", "summary"], ["a.jsonl:3", "objects"], ["b.jsonl:2", "summary"]]
    assert listed() == both + val
    assert listed("with_summary") == val + val
    assert [field for _, field in listed("with_summary", "wide")].count("width, height") == 6


@pytest.mark.parametrize(("name", "reason"), [("none.jsonl", "cannot be read"), ("empty.jsonl", "no records")])
def test_a_file_without_records_is_one_error(tmp_path, name, reason):
    datakit.write(tmp_path / "empty.jsonl", "")
    (error,) = verify.bad_lines(tmp_path / name, datakit.config())
    assert reason in str(error)


def test_bad_lines_and_check_agree(tmp_path):
    """Whatever one of them refuses, the other refuses with the same words."""
    rng = np.random.default_rng(3)
    for number in range(30):
        flat = rng.integers(-4, 70, 4).tolist()
        row = datakit.row(objects=[{"bbox_2d": flat, "desc": "a"}], width=int(rng.integers(63, 65)))
        file = datakit.write(tmp_path / f"{number}.jsonl", row)
        listed = [str(error) for error in verify.bad_lines(file, datakit.config())]
        refused = []
        try:
            verify.check(list(RecordFile(file)), datakit.config())
        except InputError as error:
            refused = [str(error)]
        assert refused == listed[:1]
