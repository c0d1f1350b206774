"""A checkpoint is whole or it is not there; a damaged one is found, named and passed over."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dvlm import durable
from dvlm.checkpoints import MANIFEST, CheckpointStore, find, newest, saved_step, verify
from dvlm.durable import DiskError
from dvlm.values import InputError


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "run" / "checkpoints")


def save(store: CheckpointStore, step: int, text: str = "weights") -> Path:
    with store.writing(step) as directory:
        (directory / "nested").mkdir()
        (directory / "a.bin").write_text(text)
        (directory / "nested" / "b.bin").write_text(f"{step}")
    return store.path(step)


def hidden(store: CheckpointStore) -> list[str]:
    """What is being written, or was left behind."""
    return sorted(path.name for path in store.root.iterdir() if path.name.startswith("."))


def of_a_dead_writer(path: Path) -> Path:
    """What is at `path`, under the name that it would have if a process had died while it wrote it."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    scratch = durable.beside(path)
    name = scratch.name.replace(f"-{os.getpid()}-", f"-{process.pid}-")
    return path.rename(path.with_name(name))


def test_it_appears_when_it_is_whole(store):
    with store.writing(5) as directory:
        (directory / "a.bin").write_text("half")
        assert store.steps() == []
        with pytest.raises(InputError, match="no checkpoint in"):
            find(str(store.root.parent))
    assert store.steps() == [5]
    assert hidden(store) == []
    assert (store.root / "last").readlink() == Path("step-000005")


def test_nothing_is_left_of_one_that_was_not_finished(store):
    save(store, 4)
    with pytest.raises(FileNotFoundError), store.writing(5) as directory:
        shutil.copytree(store.path(4), directory / "half").joinpath("a.bin").rename(directory / "no" / "a.bin")
    assert (store.steps(), hidden(store)) == ([4], [])
    assert (store.root / "last").readlink() == Path("step-000004")


def test_a_step_can_be_saved_again(store):
    save(store, 5, "old")
    assert (save(store, 5, "new") / "a.bin").read_text() == "new"
    assert hidden(store) == []


def test_a_step_that_cannot_be_saved_again_stays(store, monkeypatch):
    old, replace = save(store, 5, "old"), os.replace
    calls = []

    def fails_once(*names):
        calls.append(names)
        if len(calls) == 2:  # the old one is aside, the new one not yet there
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(names[1]))
        replace(*names)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(DiskError, match="No space left on device"):
        save(store, 5, "new")
    verify(old)
    assert (old / "a.bin").read_text() == "old"
    assert hidden(store) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "mkdir"])
def test_a_disk_that_refuses(store, monkeypatch, number, call):
    """A quota and a broken disk often show only when data are synced."""
    whole = save(store, 4)

    def refuses(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuses)
    with pytest.raises(DiskError) as caught:
        save(store, 5)
    monkeypatch.undo()
    message = str(caught.value)
    assert f"the checkpoint of step 5 cannot be saved: {os.strerror(number)}" in message
    assert "step-000004 before it is untouched; free space" in message
    verify(whole)
    assert (store.steps(), hidden(store)) == ([4], [])


def test_what_libraries_make_of_a_full_disk_is_known(store):
    with pytest.raises(DiskError, match="No space left on device"), store.writing(1):
        raise Exception("I/O error: No space left on device (os error 28)")
    behind = RuntimeError("unexpected pos 64 vs 0")  # what torch says, and why
    behind.__context__ = OSError(errno.EDQUOT, "over", "/x")
    with pytest.raises(DiskError, match="Disk quota exceeded: /x"), store.writing(1):
        raise behind


def test_what_a_dead_writer_left_is_cleaned_and_what_a_living_one_writes_is_not(store):
    shutil.copytree(save(store, 5), store.path(6))
    (store.path(6) / "a.bin").write_text("half")
    of_a_dead_writer(store.path(6))
    with store.writing(7) as directory:
        store.clean()
        assert hidden(store) == [directory.name]
    assert (store.steps(), hidden(store)) == ([5, 7], [])


def test_a_writer_of_another_machine_is_dead_when_it_is_silent(store):
    save(store, 1)
    with store.writing(2) as directory:
        elsewhere = directory.rename(directory.with_name(directory.name.replace(durable.machine(), "0" * 8)))
        store.clean()
        assert hidden(store) == [elsewhere.name]
        os.utime(elsewhere, (0, 0))
        store.clean()
        assert hidden(store) == []
        directory.mkdir()


def test_one_that_only_lacked_its_name_is_put_in_place(store):
    """A writer died between the two renames that replace a checkpoint: the old one is aside."""
    save(store, 4)
    of_a_dead_writer(save(store, 5))
    store.clean()
    assert (store.steps(), hidden(store)) == ([4, 5], [])
    assert newest(store.root) == store.path(5)


def test_the_manifest_names_every_file_with_size_and_hash(store):
    manifest = json.loads((save(store, 1) / MANIFEST).read_text())
    assert set(manifest) == {"a.bin", "nested/b.bin"}
    assert manifest["a.bin"]["size"] == len("weights")
    assert len(manifest["a.bin"]["sha256"]) == 64


DAMAGES = {
    "shortened": lambda checkpoint: (checkpoint / "nested" / "b.bin").write_text(""),
    "changed": lambda checkpoint: (checkpoint / "nested" / "b.bin").write_text("3"),
    "missing": lambda checkpoint: (checkpoint / "nested" / "b.bin").unlink(),
    "no manifest": lambda checkpoint: (checkpoint / MANIFEST).unlink(),
    "empty manifest": lambda checkpoint: (checkpoint / MANIFEST).write_text(""),
    "manifest of nothing": lambda checkpoint: (checkpoint / MANIFEST).write_text("{}"),
    "other manifest": lambda checkpoint: (checkpoint / MANIFEST).write_text("[1]"),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_the_one_before_taken(store, caplog, damage):
    first, second = save(store, 1), save(store, 2)
    DAMAGES[damage](second)
    with pytest.raises(InputError, match=r"is damaged|is no whole checkpoint"):
        verify(second)
    with pytest.raises(InputError, match=r"take another checkpoint, or name the run"):
        find(str(second))
    with pytest.raises(InputError, match=r"take another checkpoint, or name the run"):
        find(str(store.root / "last"))
    with caplog.at_level(logging.WARNING):
        assert find(str(store.root.parent)) == first
    assert "step-000002" in caplog.text
    assert f"{first} is taken instead" in caplog.text
    assert newest(store.root) == first


def test_no_whole_checkpoint_is_an_error_that_names_all(store):
    for step in (1, 2):
        (save(store, step) / "a.bin").write_text("")
    for looks in (lambda: find(str(store.root.parent)), lambda: newest(store.root)):
        with pytest.raises(InputError, match=r"no checkpoint is whole \(.*000002.*; .*000001.*\); remove them"):
            looks()


def test_best_and_last_are_links_that_move(store):
    for step in (1, 2, 3):
        save(store, step)
    store.point("best", 2)
    assert (store.root / "best").resolve() == store.path(2)
    store.point("best", 3)
    assert (store.root / "best").resolve() == store.path(3)
    assert hidden(store) == []


def test_pruning_spares_best_and_last(store):
    for step in range(1, 6):
        save(store, step)
    store.prune(None)
    assert store.steps() == [1, 2, 3, 4, 5]
    store.point("best", 1)
    store.prune(2)
    assert store.steps() == [1, 4, 5]
    store.point("last", 4)
    store.prune(1)
    assert store.steps() == [1, 4, 5]


def test_pruning_does_not_count_what_is_later_than_the_last(store):
    """Step 9 was damaged, and the run went on from step 1."""
    for step in (1, 9, 2):
        save(store, step)
    store.prune(2)
    assert store.steps() == [1, 2, 9]


def test_find_takes_a_checkpoint_a_link_a_run_or_its_checkpoints(store):
    first, second = save(store, 1), save(store, 2)
    store.point("best", 1)
    run = store.root.parent
    assert find(str(first)) == first
    assert find(str(store.root / "best")) == first
    assert find(str(run)) == second
    assert find(str(store.root)) == second
    assert find(str(run), prefer=("best", "last")) == first


def test_where_the_best_is_damaged_the_last_is_taken(store, caplog):
    first, second, third = (save(store, step) for step in (1, 2, 3))
    store.point("best", 1)
    store.point("last", 2)
    (first / "a.bin").write_text("")
    assert find(str(store.root), prefer=("best", "last")) == second
    assert f"step-000001/a.bin is damaged: it is not what manifest.json says; {second} is taken instead" in caplog.text
    (second / "a.bin").write_text("")
    assert find(str(store.root), prefer=("best", "last")) == third


def test_the_step_of_a_checkpoint(store):
    assert saved_step(save(store, 42)) == 42
    with pytest.raises(InputError, match="not a checkpoint of a run"):
        saved_step(store.root)


def test_a_checkpoint_of_another_run_is_brought_along(store, tmp_path):
    theirs = CheckpointStore(tmp_path / "other" / "checkpoints")
    source = save(theirs, 7)
    store.adopt(source, "best")
    assert store.steps() == [7]
    assert not (store.root / "last").exists()
    assert find(str(store.root.parent), prefer=("best",)) == store.path(7)
    assert theirs.steps() == [7]
    store.adopt(store.path(7), "last")
    assert (store.root / "last").resolve() == store.path(7)


def test_a_damaged_checkpoint_is_not_brought_along(store, tmp_path):
    source = save(CheckpointStore(tmp_path / "other"), 7)
    (source / "a.bin").write_text("")
    with pytest.raises(InputError, match="the checkpoint that was copied is damaged"):
        store.adopt(source, "best")
    assert (store.steps(), hidden(store)) == ([], [])
