"""The checkpoint store of a run: a checkpoint appears by rename, so it is whole or it is not there.

`step-000100/` are directories; `last` and `best` are links to them, replaced by rename as well. Whoever reads one
checks it against its manifest; where a run is named, a damaged checkpoint is passed over for the newest whole one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvlm import durable
from dvlm.data.digest import sha256
from dvlm.durable import DiskError
from dvlm.values import InputError

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
TRAINER = "trainer.ckpt"
STEP = re.compile(r"step-(\d+)$")


@dataclass(frozen=True)
class CheckpointStore:
    """The `checkpoints/` directory of a run, which one process writes."""

    root: Path

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is, or will be."""
        return self.root / f"step-{step:06d}"

    def clean(self) -> None:
        """Remove what dead writers left; what one had finished but for the last rename is put in its place."""
        for path in self.root.glob(".*.tmp"):
            if durable.abandoned(path):
                target = durable.meant(path)
                if STEP.match(target.name) and not target.exists() and fault(path) is None:
                    os.replace(path, target)
                else:
                    durable.remove(path)

    @contextmanager
    def writing(self, step: int, name: str = "last") -> Iterator[Path]:
        """An empty directory to write the checkpoint of a step into. When the block ends it is made durable and
        appears, and the link `name` stands for it; when it raises, nothing of it is left.

        Raises DiskError where the disk refuses.
        """
        try:
            with durable.appearing(self.path(step)) as scratch:
                scratch.mkdir()
                yield scratch
                _write_manifest(scratch)
        except BaseException as error:
            if said := durable.refusal(error):
                raise self._refused(step, said) from error
            raise
        self.point(name, step)

    def _refused(self, step: int, said: str) -> DiskError:
        whole = [self.path(each).name for each in self.steps() if each != step][-1:]
        kept = f"{whole[0]} before it is untouched" if whole else "there is none before it"
        return DiskError(
            f"the checkpoint of step {step} cannot be saved: {said}; {durable.free(self.root)}. Nothing of it is left, "
            f"{kept}; free space (trainer.save_total_limit keeps fewer checkpoints) and resume this run"
        )

    def point(self, name: str, step: int) -> None:
        """Let the link `name` stand for the checkpoint of `step`."""
        fresh = durable.beside(self.root / name)
        fresh.symlink_to(self.path(step).name)
        os.replace(fresh, self.root / name)
        durable.sync(self.root)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        found = (STEP.match(path.name) for path in self.root.iterdir()) if self.root.is_dir() else ()
        return sorted(int(match.group(1)) for match in found if match)

    def adopt(self, source: Path, name: str) -> None:
        """Bring along a checkpoint, of another run or of this one, and let the link `name` stand for it."""
        step = saved_step(source)
        if self.path(step).exists():
            self.point(name, step)
            return
        with self.writing(step, name) as scratch:
            shutil.copytree(source, scratch, dirs_exist_ok=True)

    def prune(self, keep: int | None) -> None:
        """Delete all but the newest `keep` checkpoints up to `last`, and those that `best` or `last` stand for.

        Later ones than `last` were found damaged when the run was resumed, and are not counted.
        """
        if keep is None:
            return
        held = {(self.root / name).resolve() for name in ("best", "last")}
        newest = saved_step((self.root / "last").resolve())
        for step in [step for step in self.steps() if step <= newest][:-keep]:
            if self.path(step).resolve() not in held:
                aside = durable.beside(self.path(step))
                os.replace(self.path(step), aside)  # at once: what a kill leaves half deleted is no checkpoint
                durable.remove(aside)


def is_run(given: Path) -> bool:
    """Whether a directory is a checkpoint of a run, or holds one."""
    return (given / MANIFEST).is_file() or any(_store(given).steps())


def find(path: str, prefer: tuple[str, ...] = ("last", "best")) -> Path:
    """The checkpoint directory that `path` means: itself, or one of a run directory: the first of `prefer`.

    In a run, one that is damaged is named in a warning, and the next one taken: of `prefer`, then the newest. Raises
    InputError when there is none, or when the one that `path` names itself is damaged.
    """
    given = Path(path)
    if (given / MANIFEST).is_file() or STEP.match(given.name) or given.is_symlink() and given.name in ("last", "best"):
        if wrong := fault(given.resolve()):
            raise InputError(f"{wrong}; take another checkpoint, or name the run to take its newest whole one")
        return given.resolve()
    store = _store(given)
    links = [store.root / name for name in prefer if (store.root / name).is_symlink()]
    found = _first_whole([*links, *map(store.path, reversed(store.steps()))])
    if found is None:
        raise InputError(f"no checkpoint in {path}: expected a checkpoint or run directory with checkpoints/last")
    return found


def newest(root: Path) -> Path | None:
    """The newest whole checkpoint below `root`; None where there is none at all. A warning names damaged ones."""
    store = CheckpointStore(root)
    return _first_whole(map(store.path, reversed(store.steps())))


def _store(given: Path) -> CheckpointStore:
    return CheckpointStore(given / "checkpoints" if (given / "checkpoints").is_dir() else given)


def _first_whole(candidates: Iterable[Path]) -> Path | None:
    """The first checkpoint that is whole. Raises InputError where there are only damaged ones."""
    wrong: dict[Path, str] = {}
    for candidate in candidates:
        place = candidate.resolve()
        if place in wrong:
            continue
        said = fault(place)
        if said is None:
            for each in wrong.values():
                log.warning("%s; %s is taken instead", each, place)
            return place
        wrong[place] = f"{candidate.name}: {said}" if candidate.is_symlink() else said
    if wrong:
        raise InputError(f"no checkpoint is whole ({'; '.join(wrong.values())}); remove them to start anew")
    return None


def fault(directory: Path) -> str | None:
    """What is wrong with a checkpoint; None where every file is what its manifest says."""
    try:
        verify(directory)
    except InputError as error:
        return str(error)
    return None


def saved_step(checkpoint: Path) -> int:
    """The optimizer step at which a checkpoint directory was saved."""
    match = STEP.match(checkpoint.name)
    if match is None:
        raise InputError(f"{checkpoint} is not a checkpoint of a run: expected a name such as step-000100")
    return int(match.group(1))


def verify(directory: Path) -> None:
    """Raise InputError for a file, or a manifest, that is missing, unreadable or not what was written."""
    manifest = directory / MANIFEST
    try:
        entries = _entries(manifest)
        for name, wanted in entries.items():
            file = directory / name
            if not file.is_file() or {"size": file.stat().st_size, "sha256": sha256(file)} != wanted:
                raise InputError(f"{file} is damaged: it is not what {MANIFEST} says")
    except FileNotFoundError as error:
        raise InputError(f"{directory} is no whole checkpoint: it has no {MANIFEST}") from error
    except OSError as error:
        raise InputError(f"{directory} cannot be read: {error}") from error


def _entries(manifest: Path) -> dict[str, Any]:
    """Size and hash by file. A manifest has no hash of its own: it must be what would be written for its entries."""
    raw = manifest.read_bytes()
    try:
        entries = json.loads(raw)
    except ValueError as error:
        raise InputError(f"{manifest} is damaged: {error}") from error
    if not isinstance(entries, dict) or not entries or _text(entries).encode() != raw:
        raise InputError(f"{manifest} is damaged: it is not what was written")
    return entries


def _text(entries: dict[str, Any]) -> str:
    return json.dumps(entries, indent=1)


def _write_manifest(directory: Path) -> None:
    """The manifest of what is in a directory. One that is there already, of a copy, must be the same."""
    manifest = directory / MANIFEST
    copied = manifest.read_bytes() if manifest.exists() else None
    manifest.unlink(missing_ok=True)
    entries = {}
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        # Some writers keep their files private; a checkpoint is read by whoever serves it.
        file.chmod(0o644)
        entries[file.relative_to(directory).as_posix()] = {"size": file.stat().st_size, "sha256": sha256(file)}
    if copied not in (None, _text(entries).encode()):
        raise InputError(f"{directory} is not what its {MANIFEST} says: the checkpoint that was copied is damaged")
    manifest.write_text(_text(entries), encoding="utf-8")
