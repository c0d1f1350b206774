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

from dvlm.config.compose import compose
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


def made(directory: Path, files: Path, *more: str) -> Run:
    """A run on the files."""
    data = (f"data.train_jsonl={files / 'train.jsonl'}", f"data.val_jsonl={files / 'val.jsonl'}")
    return Run(directory, train(compose("train", [f"cache_dir={CACHE}", *TINY, *SKIP, *data, *more]), directory))


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
