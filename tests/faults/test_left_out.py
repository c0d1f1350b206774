"""A run that leaves bad records out: listed in its directory, the same on every rank, the same when it is resumed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from support import CACHE, SMALL
from tiny_runs import SHORT, Run
from unit.data import datakit

from dvlm import assembly
from dvlm.callbacks.agreement import SameConfig
from dvlm.config import TrainConfig
from dvlm.config.compose import compose
from dvlm.config.job import Job
from dvlm.evaluate import evaluate
from dvlm.train import train
from dvlm.values import InputError

pytestmark = pytest.mark.faults

SKIP = (
    "data=jsonl",
    "data.on_bad_record=skip",
    "data.max_bad_records=2",
    "trainer.save_steps=1",
    "trainer.max_steps=2",
)
TINY = [each for each in (*SMALL, *SHORT) if not each.startswith("data.demo.")]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Six good records and two bad ones to train on; a good and a bad one to validate on."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number in range(8):
        datakit.picture(folder / f"{number}.png")
        rows.append(datakit.row(image=f"{number}.png"))
    rows[2] = "{"
    (folder / "5.png").write_bytes(b"")
    datakit.write(folder / "train.jsonl", *rows)
    datakit.write(folder / "val.jsonl", datakit.row(), datakit.row(image="没有.png"))
    return folder


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory) -> Run:
    return made(tmp_path_factory.mktemp("run"), files)


def config(files: Path, *more: str) -> TrainConfig:
    """A run on the files."""
    data = (f"data.train_jsonl={files / 'train.jsonl'}", f"data.val_jsonl={files / 'val.jsonl'}")
    return compose("train", [f"cache_dir={CACHE}", *TINY, *SKIP, *data, *more])


def made(directory: Path, files: Path, *more: str) -> Run:
    """The run, done."""
    return Run(directory, train(config(files, *more), directory))


def test_what_is_left_out_is_listed(whole, files):
    rows = [json.loads(line) for line in (whole.directory / "bad_records.jsonl").read_text("utf-8").splitlines()]
    places = [("train.jsonl", 3), ("train.jsonl", 6), ("val.jsonl", 2)]
    assert [(Path(row["file"]).name, row["line"]) for row in rows] == places
    assert [row["reasons"][0].split(":")[0] for row in rows] == ["json", "images", "images"]
    facts = json.loads((whole.directory / "run.json").read_text("utf-8"))
    assert facts["bad_records"] == 3
    assert facts["plan"]["samples"] == 6


def test_a_resumed_run_leaves_out_the_same(whole, files, tmp_path):
    resumed = made(tmp_path / "resumed", files, f"resume_from={whole.checkpoint(1)}")
    ours, theirs = resumed.adapter(2), whole.adapter(2)
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_or_does_not_go_on(whole, files, tmp_path):
    """A record was mended, another broke: as many are left, of the same length, but they are others. (That the files
    lie elsewhere is no matter.)"""
    shutil.copytree(files, tmp_path / "data")
    made(tmp_path / "moved", tmp_path / "data", f"resume_from={whole.checkpoint(1)}")
    names = [tmp_path / "data" / f"{number}.png" for number in (5, 6)]
    names[0].write_bytes(names[1].read_bytes())
    names[1].write_bytes(b"")
    with pytest.raises(InputError, match="resume_from: the packs of the first 1 steps are not those"):
        made(tmp_path / "resumed", tmp_path / "data", f"resume_from={whole.checkpoint(1)}")


def test_above_the_budget_nothing_is_started(files, tmp_path):
    with pytest.raises(InputError, match=re.escape("2 of 8 records are bad, and data.max_bad_records=1 leaves out 1")):
        made(tmp_path, files, "data.max_bad_records=1")
    assert not (tmp_path / "run.json").exists()


def test_ranks_compare_what_they_leave_out(files, tmp_path):
    """With the configuration, before anything is trained (tests/unit/callbacks/test_agreement.py)."""
    prepared = assembly.prepare(config(files))
    data = assembly.build_data(prepared)
    callbacks = assembly.build_callbacks(prepared, tmp_path, data, Job())
    (agreed,) = [each for each in callbacks if isinstance(each, SameConfig)]
    assert agreed.config["bad records"] == data.bad_digest
    assert data.bad_digest.startswith("3 (")


def test_an_evaluation_lists_them_too(whole, files, tmp_path):
    options = ("data=jsonl", f"data.val_jsonl={files / 'val.jsonl'}", "data.train_jsonl=null", *SKIP[1:3])
    output = tmp_path / "evaluation"
    small = ("generate=false", f"cache_dir={CACHE}", f"output={output}", f"checkpoint={whole.directory}")
    evaluate(compose("evaluate", [*options, *small]))
    (row,) = [json.loads(line) for line in (output / "bad_records.jsonl").read_text("utf-8").splitlines()]
    assert (Path(row["file"]).name, row["line"]) == ("val.jsonl", 2)
    assert json.loads((output / "evaluation.json").read_text("utf-8"))["facts"]["bad_records"] == 1
