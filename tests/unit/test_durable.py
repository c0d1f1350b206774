"""What is written appears whole or not at all, and is told from what a dead writer left."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dvlm import durable


def test_a_file_or_a_directory_takes_the_place_of_the_old_one(tmp_path):
    file, directory = tmp_path / "deep" / "a.txt", tmp_path / "b"
    for text in ("old", "new"):
        durable.replace_text(file, text)
        with durable.appearing(directory) as fresh:
            fresh.mkdir()
            (fresh / text).touch()
    assert file.read_text() == "new"
    assert os.listdir(directory) == ["new"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "b", "deep", "new"]


def test_a_file_never_takes_the_place_of_a_directory(tmp_path):
    (tmp_path / "a" / "kept").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        durable.replace_text(tmp_path / "a", "text")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "kept"]


def test_a_write_that_is_refused_says_where(tmp_path):
    with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device: '.*a\.txt'") as caught:
        with durable.appearing(tmp_path / "a.txt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert durable.refusal(caught.value) == f"No space left on device: {tmp_path / 'a.txt'}"
    assert os.listdir(tmp_path) == []


def test_other_errors_are_no_refusal(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "a").read_text()
    assert durable.refusal(caught.value) is None
    assert durable.refusal(ValueError("no")) is None


@pytest.mark.parametrize("name", ["a", "图" * 80, ".a", "a b.(1)=,"])
def test_a_name_tells_its_writer(tmp_path, name):
    scratch = durable.beside(tmp_path / name)
    scratch.touch()
    assert scratch.parent == tmp_path
    assert durable.meant(scratch).name == name[:40]
    assert not durable.abandoned(scratch)
    died = scratch.rename(scratch.with_name(scratch.name.replace(f"-{durable.born(os.getpid())}-", "-1-")))
    assert durable.abandoned(died)


def test_only_what_dead_writers_left_is_removed(tmp_path):
    names = [".hidden.tmp", "a.tmp", ".a.12345678-1-1.tmp", "plain"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "deep").mkdir()
    for folder in (tmp_path, tmp_path / "deep"):
        scratch = durable.beside(folder / "a")
        Path(str(scratch).replace(f"-{os.getpid()}-", "-4194305-")).mkdir()  # more than there are processes
    durable.clean(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "deep"])
    assert len(os.listdir(tmp_path / "deep")) == 1
    durable.clean(tmp_path, deep=True)
    assert os.listdir(tmp_path / "deep") == []
