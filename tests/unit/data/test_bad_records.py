"""`data.on_bad_record=skip`: what is bad is left out, listed and bounded; the rest is as if it had never been there."""

from __future__ import annotations

import logging

import datakit
import pytest

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import SourceConfig
from dvlm.data import source
from dvlm.data.datamodule import CaptionDataModule
from dvlm.values import InputError

TALK = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
BAD = {
    "broken": "{",
    "not text": b"\xff",
    "no image": datakit.row(image="没有.png"),
    "another size": datakit.row(width=65),
    "a dialogue": TALK,
    "outside": datakit.row(objects=[{"bbox_2d": [0, 0, 99, 9], "desc": "a"}, {"line": [-9, 0, 1, 1], "desc": "b"}]),
}


def good(number):
    return datakit.row(objects=[{"bbox_2d": [4, 5, 30, 40], "desc": "标签" * number}])


@pytest.fixture
def mixed(tmp_path):
    """Two good records before each bad one; the first line is bad as well."""
    rows = ["[]"]
    for number, row in enumerate(BAD.values()):
        rows += [good(2 * number + 1), good(2 * number + 2), row]
    return datakit.write(tmp_path / "mixed.jsonl", *rows)


@pytest.fixture
def clean(tmp_path):
    return datakit.write(tmp_path / "clean.jsonl", *map(good, range(1, 2 * len(BAD) + 1)))


def skip(file, **changes):
    return datakit.config(**({"train_jsonl": str(file), "on_bad_record": "skip", "max_bad_records": 0.5} | changes))


def training(config, tiny):
    return source.training(config, augmentation=Pipeline(), encoder=datakit.encoder(tiny), seed=17)


def module(config, tiny, world_size=1):
    return CaptionDataModule(
        config,
        augmentation=Pipeline(),
        encoder=datakit.encoder(tiny),
        seed=17,
        epochs=2,
        max_length=700,
        world_size=world_size,
    )


def test_bad_records_are_left_out_and_listed(mixed, tiny, caplog):
    with caplog.at_level(logging.INFO):
        line = training(skip(mixed), tiny)
    assert [part.objects.descs[0] for part in line.parts] == ["标签" * number for number in range(1, 13)]
    assert [(each.file, each.line) for each in line.bad] == [(mixed, 1), *((mixed, 4 + 3 * i) for i in range(len(BAD)))]
    fields = [[reason.partition(": ")[0] for reason in each.reasons] for each in line.bad]
    assert fields == [
        *(["json"], ["json"], ["json"], ["images"], ["width, height"], ["messages"]),
        ["objects[0].bbox_2d", "objects[1].line"],
    ]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"{mixed}: 12 of 19 records are left; dropped: 7 bad, such as {mixed}:1: json: list; expected one JSON object "
        "a line"
    )


def test_the_plan_and_the_samples_are_those_of_the_good_records_alone(mixed, clean, tiny):
    found, wanted = module(skip(mixed), tiny), module(datakit.config(train_jsonl=str(clean)), tiny)
    assert found.train_plan == wanted.train_plan
    assert module(skip(mixed), tiny, world_size=2).train_plan == found.train_plan
    for index in range(len(wanted.train_plan.packs)):
        assert found.batch(index).input_ids.tolist() == wanted.batch(index).input_ids.tolist()
    again = module(skip(mixed), tiny, world_size=2)
    assert (again.bad, again.bad_digest) == (found.bad, found.bad_digest)
    assert found.bad_digest.startswith("7 (")
    assert found.bad_digest != wanted.bad_digest


def test_an_error_is_the_default(mixed, tiny):
    with pytest.raises(InputError, match=f"^{mixed}:1: json: list"):
        training(datakit.config(train_jsonl=str(mixed)), tiny)


@pytest.mark.parametrize(("limit", "allowed"), [(0.35, 6), (0.0, 0), (6, 6), (1, 1)])
def test_more_than_the_budget_is_an_error(mixed, tiny, limit, allowed):
    with pytest.raises(InputError) as caught:
        training(skip(mixed, max_bad_records=limit), tiny)
    message = str(caught.value)
    assert message.startswith(
        f"{mixed}: 7 of 19 records are bad, and data.max_bad_records={limit:g} leaves out {allowed}"
    )
    assert message.endswith(f"The first: {mixed}:1: json: list; expected one JSON object a line")


@pytest.mark.parametrize("limit", [7 / 19, 7, 0.5])
def test_the_budget_itself_is_enough(mixed, tiny, limit):
    assert training(skip(mixed, max_bad_records=limit), tiny).records == 12


def test_each_file_has_a_budget_of_its_own(mixed, clean, tiny, tmp_path):
    """Sources and validation too: a large clean file does not pay for a small bad one."""
    sources = [SourceConfig("a", str(clean)), SourceConfig("b", str(mixed))]
    both = {"train_jsonl": None, "sources": sources, "val_jsonl": str(mixed)}
    data = module(skip(mixed, **both), tiny)
    assert data.train_line.records == 24
    assert [each.line for each in data.bad] == 2 * [1, 4, 7, 10, 13, 16, 19]
    many = datakit.write(tmp_path / "many.jsonl", *[good(1)] * 100)
    for changes in ({"val_jsonl": str(mixed)}, {"train_jsonl": None, "sources": [SourceConfig("a", str(mixed))]}):
        with pytest.raises(InputError, match=f"{mixed}: 7 of 19 records are bad"):
            module(skip(many, **({"max_bad_records": 0.1} | changes)), tiny)


def test_nothing_left_is_an_error(tmp_path, tiny):
    file = datakit.write(tmp_path / "a.jsonl", "{", "[]")
    with pytest.raises(InputError, match=f"{file}: none of 2 records is left: 2 bad, such as {file}:1: json"):
        training(skip(file, max_bad_records=2), tiny)


def test_a_file_that_is_not_there_or_empty_is_never_skipped(tmp_path, tiny):
    for name, content in (("none.jsonl", None), ("empty.jsonl", "")):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=f"{name}: (cannot be read|no records)"):
            training(skip(tmp_path / name, max_bad_records=9), tiny)


def nameless(record):
    """A preprocessor that drops what one good record in two has."""
    return record if len(record.objects.descs[0]) % 4 else None


def test_preprocessors_and_bad_records_are_counted_apart(mixed, tiny, caplog):
    name = f"{__name__}:nameless"
    with caplog.at_level(logging.INFO):
        line = training(skip(mixed, preprocessors=[name]), tiny)
    assert [len(part.objects.descs[0]) // 2 for part in line.parts] == [1, 3, 5, 7, 9, 11]
    # What a preprocessor drops is not looked at: two of the bad ones.
    assert f"6 of 19 records are left; dropped: 8 by {name}, 5 bad" in caplog.text


def test_an_image_that_breaks_after_the_check_stops_the_run(mixed, tiny):
    line = training(skip(mixed, images_per_user_turn=1), tiny)
    picture = mixed.parent / "a.png"
    picture.write_bytes(picture.read_bytes()[:-3000])
    place = line.turn(0, 0).place
    with pytest.raises(InputError, match=rf"^{place}: images: {picture} cannot be read: .*truncated"):
        line.sample(0, 0)


def test_many_lines_are_looked_at_in_parallel_with_the_same_result(tmp_path, tiny):
    rows = [datakit.row() if number % 7 else "{" for number in range(1500)]
    file = datakit.write(tmp_path / "a.jsonl", *rows)
    line = training(skip(file), tiny)
    assert [each.line for each in line.bad] == [number + 1 for number in range(1500) if number % 7 == 0]
    assert line.records == 1500 - len(line.bad)
