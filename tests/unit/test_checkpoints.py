"""A checkpoint is whole or it is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dvlm.checkpoints import MANIFEST, CheckpointStore, find, saved_step, verify
from dvlm.values import InputError


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "run" / "checkpoints")


def save(store: CheckpointStore, step: int, text: str = "weights") -> Path:
    partial = store.begin(step)
    (partial / "nested").mkdir()
    (partial / "a.bin").write_text(text)
    (partial / "nested" / "b.bin").write_text(f"{step}")
    return store.commit(step)


def test_it_appears_only_with_commit(store):
    partial = store.begin(5)
    (partial / "a.bin").write_text("half")
    assert store.steps() == []
    with pytest.raises(InputError, match="no checkpoint in"):
        find(str(store.root.parent))
    save(store, 5)
    assert store.steps() == [5]
    assert not partial.exists()
    assert (store.root / "last").readlink() == Path("step-000005")


def test_what_a_dead_writer_left_is_removed(store):
    (store.begin(5) / "stale.bin").write_text("stale")
    assert not (save(store, 5) / "stale.bin").exists()


def test_a_step_can_be_saved_again(store):
    save(store, 5, "old")
    assert (save(store, 5, "new") / "a.bin").read_text() == "new"


def test_the_manifest_names_every_file_with_size_and_hash(store):
    manifest = json.loads((save(store, 1) / MANIFEST).read_text())
    assert set(manifest) == {"a.bin", "nested/b.bin"}
    assert manifest["a.bin"]["size"] == len("weights")
    assert len(manifest["a.bin"]["sha256"]) == 64


@pytest.mark.parametrize("damage", ["shortened", "changed", "missing"])
def test_damage_is_found(store, damage):
    checkpoint = save(store, 1)
    file = checkpoint / "nested" / "b.bin"
    match damage:
        case "shortened":
            file.write_text("")
        case "changed":
            file.write_text("2")
        case "missing":
            file.unlink()
    with pytest.raises(InputError, match=r"b\.bin is damaged"):
        verify(checkpoint)
    with pytest.raises(InputError, match=r"b\.bin is damaged"):
        find(str(store.root.parent))


def test_best_and_last_are_links_that_move(store):
    for step in (1, 2, 3):
        save(store, step)
    store.point("best", 2)
    assert (store.root / "best").resolve() == store.path(2)
    store.point("best", 3)
    assert (store.root / "best").resolve() == store.path(3)
    assert sorted(path.name for path in store.root.iterdir() if path.name.startswith(".")) == []


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


def test_find_takes_a_checkpoint_a_link_a_run_or_its_checkpoints(store):
    first, second = save(store, 1), save(store, 2)
    store.point("best", 1)
    run = store.root.parent
    assert find(str(first)) == first
    assert find(str(store.root / "best")) == first
    assert find(str(run)) == second
    assert find(str(store.root)) == second
    assert find(str(run), prefer=("best", "last")) == first


def test_the_step_of_a_checkpoint(store):
    assert saved_step(save(store, 42)) == 42
    with pytest.raises(InputError, match="not a checkpoint of a run"):
        saved_step(store.root)


def test_a_checkpoint_of_another_run_is_brought_along(store, tmp_path):
    theirs = CheckpointStore(tmp_path / "other" / "checkpoints")
    source = save(theirs, 7)
    store.adopt(source, "best")
    assert store.steps() == [7]
    assert find(str(store.root.parent), prefer=("best",)) == store.path(7)
    assert theirs.steps() == [7]
    store.adopt(store.path(7), "last")
    assert (store.root / "last").resolve() == store.path(7)
