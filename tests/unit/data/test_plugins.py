"""Functions of the user's own: preprocessors that drop and change records, message builders, and how they fail."""

import json
import logging
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import datakit
import numpy as np
import pytest

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config.compose import compose
from dvlm.data import messages, plugins, source
from dvlm.data.datamodule import CaptionDataModule
from dvlm.data.index import RecordFile
from dvlm.data.records import parse
from dvlm.values import Dialogue, InputError, Record

# --- what a configuration names below: functions of this very file


def without_labels(record):
    """Drops records without objects."""
    return record if record.objects and record.objects.descs else None


def short_names(record):
    """Keeps the first part of each description."""
    descs = tuple(desc.split("/")[0] for desc in record.objects.descs)
    return replace(record, objects=replace(record.objects, descs=descs))


def counted(record):
    """Writes the summary that a record lacks."""
    return replace(record, summary=record.summary or f"物体×{len(record.objects.descs)}")


def unlabelled(record):
    return replace(record, objects=None)


def nothing(record):
    return None


def a_mapping(record):
    return {"images": [record.image]}


def broken(record):
    return {"光模块": 1}[record.objects.descs[0]] and record


def in_one_line(turn, drawn, prompts):
    """The default builder with the number of images in front of the question."""
    built = messages.build(turn, drawn, prompts)
    built[1]["content"].insert(0, {"type": "text", "text": f"{len(turn.images)}张图片。"})
    return built


NUMBER = 3


class Builder:
    pass


@pytest.fixture
def file(tmp_path):
    """Five records: two without an object, two without a summary."""
    box = {"bbox_2d": [4, 5, 30, 40], "desc": "标签/文字:A12"}
    rows = [
        datakit.row(),
        datakit.row(objects=[]),
        datakit.row(objects=[box, box], summary=None),
        datakit.row(objects=None),
        datakit.row(objects=[box], summary=None),
    ]
    return datakit.write(tmp_path / "a.jsonl", *rows)


def build(file, model, *preprocessors, **changes):
    names = [f"{__name__}:{name}" for name in preprocessors]
    data = datakit.config(train_jsonl=str(file), preprocessors=names, images_per_user_turn=1, **changes)
    return source.training(data, augmentation=Pipeline(), encoder=datakit.encoder(model), seed=17)


def test_one_that_drops_is_counted_in_the_log(file, tiny, caplog):
    with caplog.at_level(logging.INFO):
        line = build(file, tiny, "without_labels")
    assert line.turns == 3
    assert sorted(line.turn(0, index).records[0].line for index in range(3)) == [1, 3, 5]
    (record,) = caplog.records
    assert record.getMessage() == f"{file}: 3 of 5 records are left; dropped: 2 by {__name__}:without_labels"


def test_one_that_changes_reaches_the_answer(file, tiny):
    line = build(file, tiny, "without_labels", "short_names")
    descs = {}
    for index in range(line.turns):
        sample = line.sample(0, index)
        descs[sample.turn.records[0].line] = [item["desc"] for item in json.loads(sample.answer)["图片_1"]]
        assert line.lengths(0, [index])[0, 0] == len(sample.input_ids)
    assert descs == {1: ["光模块"], 3: ["标签", "标签"], 5: ["标签"]}


def test_the_order_is_that_of_the_list(file, tiny):
    assert build(file, tiny, "without_labels", "short_names").turns == 3
    with pytest.raises(AttributeError, match="descs") as caught:
        build(file, tiny, "short_names", "without_labels")
    assert caught.value.__notes__ == [f"{file}:4: raised by the preprocessor {__name__}:short_names"]


def test_records_are_checked_as_they_are_left(file, tiny):
    """What a preprocessor mends or drops need not be right in the file; what it breaks stops the run."""
    with pytest.raises(InputError, match=f"{file}:3: summary: null"):
        build(file, tiny, summary_ratio=0.5)
    assert build(file, tiny, "without_labels", "counted", summary_ratio=0.5).turns == 3
    with pytest.raises(InputError, match=f"{file}:1: objects: null"):
        build(file, tiny, "unlabelled")


def test_all_records_dropped(file, tiny):
    with pytest.raises(InputError, match=r"a.jsonl: none of 5 records is left: 2 by .*:without_labels, 3 by .*:noth"):
        build(file, tiny, "without_labels", "nothing")


def test_something_else_than_a_record(file, tiny):
    with pytest.raises(InputError, match=f"{file}:1: the preprocessor .*:a_mapping returned a dict, expected a Record"):
        build(file, tiny, "a_mapping")


def test_an_error_inside_names_the_record(file, tiny):
    with pytest.raises(KeyError) as caught:
        build(file, tiny, "without_labels", "broken")
    assert caught.value.__notes__ == [f"{file}:1: raised by the preprocessor {__name__}:broken"]


def test_it_is_a_sequence_that_costs_one_number_a_record(file):
    records = RecordFile(file)
    parts = plugins.Chosen(records, [0, 2, 4], [without_labels, short_names])
    assert [part.line for part in parts] == [part.line for part in parts[:]] == [1, 3, 5]
    assert (parts[-1].line, len(parts)) == (5, 3)
    assert [part.line for part in parts[::-2]] == [5, 1]
    with pytest.raises(IndexError):
        parts[3]
    assert {type(value) for value in vars(parts).values()} == {RecordFile, tuple, np.ndarray}
    assert re.match(rf"3 of 5 records \([0-9a-f]{{16}}\) after \['{__name__}:without_labels ", repr(parts))
    assert repr(plugins.Chosen(records, [0, 1, 4], [without_labels, short_names])) != repr(parts)


def test_dialogues_are_preprocessed_too(tmp_path, tiny):
    rows = [{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": text}]} for text in "甲乙"]
    line = build(datakit.write(tmp_path / "a.jsonl", *rows), tiny, "second_only")
    assert [part.line for part in line.parts] == [2]


def second_only(dialogue):
    return dialogue if dialogue.line == 2 else None


def test_workers_serve_the_same(file, tiny):
    """In processes of their own, which get the functions with the records."""

    def served(workers):
        data = CaptionDataModule(
            datakit.config(
                train_jsonl=str(file),
                preprocessors=[f"{__name__}:without_labels", f"{__name__}:short_names"],
                message_builder=f"{__name__}:in_one_line",
                packs_per_step=1,
                packing=False,
                dataloader_num_workers=workers,
            ),
            augmentation=Pipeline(),
            encoder=datakit.encoder(tiny),
            seed=17,
            epochs=1,
            max_length=700,
            world_size=1,
        )
        return [batch.input_ids.tolist() for batch in data.train_dataloader()]

    assert served(2) == served(0)


def test_a_message_builder(file, tiny):
    own, default = (
        build(file, tiny, "without_labels", **changes)
        for changes in ({"message_builder": f"{__name__}:in_one_line"}, {})
    )
    decode = own.encoder.processor.tokenizer.decode
    for index in range(3):
        sample, plain = own.sample(0, index), default.sample(0, index)
        assert decode(sample.input_ids).replace("1张图片。", "", 1) == decode(plain.input_ids)
        assert decode(sample.labels[sample.labels != -100]) == decode(plain.labels[plain.labels != -100])
        assert own.lengths(0, [index]).tolist() == [[len(sample.input_ids), int((sample.labels != -100).sum())]]
    assert own.settings() != default.settings()


BAD = {
    "no colon": ("dvlm.data.messages.build", "is no function; write package.module:function"),
    "nothing behind": ("dvlm.data.messages:", "is no function; write package.module:function"),
    "nothing before": (":build", "is no function; write package.module:function"),
    "empty": ("", "is no function; write package.module:function"),
    "no module": ("dvlm.data.mesages:build", "cannot be found: No module named 'dvlm.data.mesages'"),
    "no attribute": ("dvlm.data.messages:bild", "cannot be found: module 'dvlm.data.messages' has no attribute 'bild'"),
    "relative": (".messages:build", "cannot be found: "),
    "a number": (f"{__name__}:NUMBER", "is of type int, expected a function (def)"),
    "a class": (f"{__name__}:Builder", "is of type type, expected a function (def)"),
}


@pytest.mark.parametrize(("name", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_name_stops_before_any_record_is_checked(tmp_path, tiny, name, message):
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(), datakit.row(image="没有.png"))
    for knob, changes in (("preprocessors", {"preprocessors": [name]}), ("message_builder", {"message_builder": name})):
        data = datakit.config(train_jsonl=str(file), **changes)
        with pytest.raises(InputError) as caught:
            source.training(data, augmentation=Pipeline(), encoder=datakit.encoder(tiny), seed=17)
        assert str(caught.value).startswith(f"data.{knob}: '{name}' {message}")


# --- docs/data.md

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "data.md").read_text(encoding="utf-8")


def blocks(section, language):
    """The fenced blocks of a section in that language."""
    text = PAGE.split(f"## {section}")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def command(section):
    """The overrides of the section's command."""
    (shown,) = blocks(section, "sh")
    words = shlex.split(shown.replace("\\\n", " "))
    assert words[:3] == ["python", "-m", "dvlm.train"]
    return words[3:]


@pytest.fixture
def as_shown(tmp_path, tiny, monkeypatch):
    """The line that a section's command makes of a file, the section's function being in `mine.py`."""

    def build(section, file):
        (tmp_path / "mine.py").write_text(blocks(section, "python")[0], encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "mine", raising=False)
        data = compose("train", [*command(section), "data.images_per_user_turn=1", "data.packing=false"]).data
        assert data.train_jsonl == "train.jsonl"
        changed = replace(data, train_jsonl=str(file))
        return source.training(changed, augmentation=Pipeline(), encoder=datakit.encoder(tiny), seed=17)

    yield build
    sys.modules.pop("mine", None)


def test_the_preprocessor_of_the_page(as_shown, tmp_path, caplog):
    box = {"bbox_2d": [4, 5, 30, 40], "desc": "标签/文字:无法识别"}
    rows = [datakit.row(), datakit.row(objects=[box]), datakit.row(summary=None), datakit.row(objects=None)]
    file = datakit.write(tmp_path / "train.jsonl", *rows)
    with caplog.at_level(logging.INFO):
        line = as_shown("A new preprocessor", file)
    assert {part.line: part.summary for part in line.parts} == {1: "光模块×1", 3: "物体×1"}
    (shown,) = blocks("A new preprocessor", "text")
    (record,) = caplog.records
    assert digits_as_n(record.getMessage().replace(str(file), file.name)) == digits_as_n(shown.strip())


def digits_as_n(text):
    return re.sub(r"\d+", "n", text)


def test_the_message_builder_of_the_page(as_shown, tmp_path):
    line = as_shown("A new message builder", datakit.write(tmp_path / "train.jsonl", datakit.row()))
    sample = line.sample(0, 0)
    text = line.encoder.processor.tokenizer.decode(sample.input_ids)
    assert f"{line.prompts.user} (64x48)<|im_end|>" in text
    assert json.loads(sample.answer) == {"图片_1": [{"bbox_2d": [62, 104, 469, 833], "desc": "光模块/显示完整"}]}
    assert line.lengths(0, [0])[0, 0] == len(sample.input_ids)


def test_the_lines_and_commands_of_the_page(tmp_path):
    record, dialogue = blocks("The schema", "json")
    parts = [parse(tmp_path / "a.jsonl", 1, " ".join(each.split("\n")).encode()) for each in (record, dialogue)]
    assert [type(part) for part in parts] == [Record, Dialogue]
    assert len(parts[0].objects.descs) == 3
    assert len(parts[1].images) == 1
    sources = compose("train", command("Several sources")).data.sources
    assert [(each.name, each.weight) for each in sources] == [("site_a", 1.0), ("site_b", 0.5)]
    answer = json.loads(blocks("From record to batch", "text")[0].splitlines()[0])
    prompts = messages.Prompts.of(datakit.config())
    annotation = replace(parts[0].objects, shapes=parts[0].objects.shapes.take([0]), descs=parts[0].objects.descs[:1])
    assert answer["图片_1"] == messages.objects(annotation, prompts)


def test_the_pictures_of_the_page_are_there_and_small():
    named = re.findall(r"!\[.*?\]\((.*?)\)", PAGE)
    assert len(named) == 3
    assert all(0 < (DOCS / name).stat().st_size < 300_000 for name in named)
    assert all((DOCS / name).is_file() for name in re.findall(r"\]\(([\w./]+\.md)\)", PAGE))
