"""Lengths of all epochs: the same in parallel, measured once, and measured anew as soon as anything changes."""

import logging
import shutil
import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import datakit
import numpy as np
import pytest

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import SourceConfig
from dvlm.data import lengths, parallel, source
from dvlm.data.encode import Encoder
from dvlm.data.line import Line
from dvlm.models.load import load_processor
from dvlm.values import InputError

OPS = [{"name": "rotate", "params": {"max_deg": 30.0, "prob": 0.7}}, {"name": "pad_to_multiple"}]


@pytest.fixture(scope="module")
def line(demo_files, tiny):
    """Twelve turns whose lengths differ from epoch to epoch."""
    return build(demo_files[0], tiny)


def build(file, model, *, ops=OPS, encoder=None, **changes):
    data = datakit.config(train_jsonl=str(file), verify_images="header", **changes)
    return source.training(
        data, augmentation=Pipeline.build(ops), encoder=encoder or datakit.encoder(model, max_pixels=96 * 96), seed=17
    )


@pytest.fixture
def measured(monkeypatch):
    """The (epoch, first turn, turns) of each stretch that is measured in this process."""
    calls = []
    measure = Line.lengths

    def counted(line, epoch, indices):
        calls.append((epoch, indices[0], len(indices)))
        return measure(line, epoch, indices)

    monkeypatch.setattr(Line, "lengths", counted)
    return calls


def same(found, wanted):
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == theirs.dtype == np.int64
        assert ours.tolist() == theirs.tolist()


def in_parallel(monkeypatch, processes):
    monkeypatch.setattr(parallel, "FROM", 1)
    monkeypatch.setattr(lengths, "CHUNK", 5)
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(processes)))


def test_they_are_those_of_the_samples(line):
    for epoch, rows in enumerate(lengths.measure(line, 2)):
        for index, row in enumerate(rows.tolist()):
            sample = line.sample(epoch, index)
            assert row == [len(sample.input_ids), int((sample.labels != -100).sum())]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_parallel_is_serial(line, measured, monkeypatch, processes):
    serial = lengths.measure(line, 3)
    assert serial[0].tolist() != serial[1].tolist()
    here = len(measured)
    in_parallel(monkeypatch, processes)
    same(lengths.measure(line, 3), serial)
    # Three stretches an epoch, here or in other processes.
    assert len(measured) - here == (9 if processes == 1 else 0)


def test_parallel_of_several_sources(demo_files, tiny, monkeypatch):
    named = [SourceConfig(name, str(file), weight=0.7) for name, file in zip("ab", demo_files, strict=True)]
    mixture = build(None, tiny, sources=named)
    serial = lengths.measure(mixture, 3)
    in_parallel(monkeypatch, 2)
    same(lengths.measure(mixture, 3), serial)


def test_an_error_of_another_process_is_its_own(tmp_path, tiny, monkeypatch):
    for name in "abc":
        datakit.picture(tmp_path / f"{name}.png")
    spoken = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "好"}]
    rows = [{"messages": spoken, "images": [f"{name}.png"]} for name in "abc"]
    dialogues = build(datakit.write(tmp_path / "a.jsonl", *rows), tiny)
    (tmp_path / "b.png").unlink()
    in_parallel(monkeypatch, 2)
    with pytest.raises(InputError, match=r"a.jsonl:2: images: .*b.png does not exist"):
        lengths.measure(dialogues, 2)


def test_what_is_kept_is_not_measured_again(line, measured, tmp_path):
    first = lengths.measure(line, 2, tmp_path / "里 面")
    assert measured == [(0, 0, 12), (1, 0, 12)]
    same(lengths.measure(line, 2, tmp_path / "里 面"), first)
    same(lengths.measure(line, 1, tmp_path / "里 面"), first[:1])
    assert len(measured) == 2
    third = lengths.measure(line, 3, tmp_path / "里 面")
    assert measured[2:] == [(2, 0, 12)]
    same(third[:2], first)
    same([third[2]], [line.lengths(2, range(12))])


def test_without_a_cache_nothing_is_kept(line, measured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lengths.measure(line, 1)
    lengths.measure(line, 1)
    assert len(measured) == 2
    assert not list(tmp_path.iterdir())


def test_dialogues_are_not_kept(tmp_path, tiny, measured):
    spoken = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "好"}]
    file = datakit.write(tmp_path / "a.jsonl", {"messages": spoken, "images": ["a.png"]})
    dialogues = build(file, tiny)
    first = lengths.measure(dialogues, 1, tmp_path / "cache")
    datakit.picture(tmp_path / "a.png", 96, 96)
    assert lengths.measure(dialogues, 1, tmp_path / "cache")[0][0, 0] > first[0][0, 0]
    assert not (tmp_path / "cache").exists()


def template(encoder, text):
    """The encoder with something added to its chat template."""
    processor = encoder.processor
    changed = load_processor(processor.tokenizer.name_or_path, None, 96 * 96)
    changed.chat_template = processor.chat_template + text
    return Encoder(changed, encoder.model_config)


CHANGES = {
    "seed": lambda line: replace(line, seed=18),
    "records a turn": lambda line: replace(line, images_per_user_turn=1),
    "summaries": lambda line: replace(line, summary_ratio=0.1),
    "limit": lambda line: replace(line, parts=line.parts[:20]),
    "preprocessor": lambda line: replace(
        line, parts=source.plugins.Chosen(line.parts, range(len(line.parts)), [as_it_is])
    ),
    "prompt": lambda line: replace(line, prompts=replace(line.prompts, user="请描述")),
    "system prompt": lambda line: replace(line, prompts=replace(line.prompts, system_summary="短")),
    "norm": lambda line: replace(line, prompts=replace(line.prompts, emit_norm="norm100")),
    "order": lambda line: replace(line, prompts=replace(line.prompts, object_order="top_left")),
    "builder": lambda line: replace(line, build=other_builder),
    "op's parameter": lambda line: replace(
        line, augmentation=Pipeline.build([OPS[0] | {"params": {"max_deg": 30.0, "prob": 0.71}}, OPS[1]])
    ),
    "one op less": lambda line: replace(line, augmentation=Pipeline.build(OPS[:1])),
    "bypass": lambda line: replace(line, augmentation=Pipeline.build(OPS, 0.1)),
    "pixels": lambda line: replace(line, encoder=datakit.encoder(Path(model_of(line)), max_pixels=64 * 64)),
    "template": lambda line: replace(line, encoder=template(line.encoder, " ")),
}


def model_of(line):
    return line.encoder.processor.tokenizer.name_or_path


def as_it_is(record):
    return record


def other_builder(turn, drawn, prompts):
    raise AssertionError("never called")


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_is_measured_anew(line, monkeypatch, tmp_path, change):
    asked = []
    monkeypatch.setattr(Line, "lengths", lambda line, epoch, indices: asked.append(epoch) or np.ones((len(indices), 2)))
    lengths.measure(line, 1, tmp_path)
    lengths.measure(replace(line), 1, tmp_path)
    assert asked == [0]
    lengths.measure(change(line), 1, tmp_path)
    assert asked == [0, 0]
    assert len(list(tmp_path.iterdir())) == 2


def test_another_file_is_measured_anew(tmp_path, tiny, demo_files, measured):
    """By its content: a copy is the same, the same name with other labels is not."""
    lines = demo_files[0].read_text(encoding="utf-8").splitlines(keepends=True)[:4]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.jsonl").write_text("".join(lines), encoding="utf-8")
        (tmp_path / folder / "images").symlink_to(demo_files[0].parent / "images")
    first = lengths.measure(build(tmp_path / "a" / "t.jsonl", tiny), 1, tmp_path)
    same(lengths.measure(build(tmp_path / "b" / "t.jsonl", tiny), 1, tmp_path), first)
    assert len(measured) == 1
    lines[1] = lines[1].replace('"desc": "', '"desc": "标签标签')
    (tmp_path / "a" / "t.jsonl").write_text("".join(lines), encoding="utf-8")
    changed = lengths.measure(build(tmp_path / "a" / "t.jsonl", tiny), 1, tmp_path)
    assert len(measured) == 2
    assert changed[0].sum() > first[0].sum()


def test_a_function_that_was_edited_is_measured_anew(tmp_path, tiny, demo_files, monkeypatch, measured):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "edited_preprocessor.py"
    options = {"preprocessors": ["edited_preprocessor:each"], "sample_limit": 4}
    for count, body in ((1, "record"), (1, "record"), (2, "record  # the same")):
        module.write_text(f"def each(record):\n    return {body}\n", encoding="utf-8")
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        sys.modules.pop("edited_preprocessor", None)
        lengths.measure(build(demo_files[0], tiny, **options), 1, tmp_path / "cache")
        assert len(measured) == count


DAMAGE = {
    "cut": lambda raw: raw[:-8],
    "empty": lambda raw: b"",
    "a flipped bit": lambda raw: raw[:-3] + bytes([raw[-3] ^ 4]) + raw[-2:],
    "something else": lambda raw: b"\x93NUMPY" + raw,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_measured_again_and_named(line, measured, tmp_path, caplog, damage):
    first = lengths.measure(line, 2, tmp_path)
    (folder,) = tmp_path.iterdir()
    file = folder / "epoch-0001.bin"
    good = file.read_bytes()
    file.write_bytes(damage(good))
    with caplog.at_level(logging.WARNING):
        same(lengths.measure(line, 2, tmp_path), first)
    assert [record.getMessage() for record in caplog.records] == [
        f"{file} is damaged: the lengths of epoch 1 are measured again"
    ]
    assert measured[2:] == [(1, 0, 12)]
    assert file.read_bytes() == good
    same(lengths.measure(line, 2, tmp_path), first)
    assert len(measured) == 3


def keep(folder, gate, numbers):
    gate.wait()
    for _ in range(200):
        lengths._keep(folder / "epoch-0000.bin", numbers)


def test_a_reader_sees_all_or_nothing(tmp_path, caplog):
    """Two processes write the same file while this one reads it."""
    context = get_context("fork")
    gate, numbers = context.Event(), np.arange(4000).reshape(-1, 2)
    writers = [context.Process(target=keep, args=(tmp_path, gate, numbers)) for _ in range(2)]
    for writer in writers:
        writer.start()
    gate.set()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        found = lengths._read_all(tmp_path, 1, len(numbers))
        seen += len(found)
        same(list(found.values()), [numbers] * len(found))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    same(list(lengths._read_all(tmp_path, 1, len(numbers)).values()), [numbers])
    assert seen
    assert not caplog.records
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0000.bin"]


def measure_into(connection, line, folder):
    connection.send(lengths.measure(line, 2, folder))


def test_two_runs_at_once_measure_the_same(line, tmp_path, monkeypatch, caplog):
    in_parallel(monkeypatch, 2)
    context = get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    runs = [context.Process(target=measure_into, args=(end, line, tmp_path)) for _, end in pipes]
    for run in runs:
        run.start()
    wanted = lengths.measure(line, 2)
    for run, (end, _) in zip(runs, pipes, strict=True):
        assert end.poll(60)
        same(end.recv(), wanted)
        run.join()
    same(lengths.measure(line, 2, tmp_path), wanted)
    assert sorted(file.name for file in tmp_path.rglob("*.*")) == ["epoch-0000.bin", "epoch-0001.bin"]
    assert not caplog.records
