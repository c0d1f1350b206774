"""The checkpoint store of a run: a checkpoint appears by rename, so it is whole or it is not there.

`step-000100/` are directories; `last` and `best` are links to them, replaced by rename as well.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from dvlm.data.digest import sha256
from dvlm.values import InputError

MANIFEST = "manifest.json"
TRAINER = "trainer.ckpt"
STEP = re.compile(r"step-(\d+)$")


@dataclass(frozen=True)
class CheckpointStore:
    """The `checkpoints/` directory of a run."""

    root: Path

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is, or will be."""
        return self.root / f"step-{step:06d}"

    def partial(self, step: int) -> Path:
        """Where it is written before it appears: beside the target, on the same file system."""
        return self.root / f".{self.path(step).name}.partial"

    def begin(self, step: int) -> Path:
        """An empty directory to write the checkpoint into; what a dead writer left there is removed."""
        partial = self.partial(step)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def commit(self, step: int) -> Path:
        """Make the written checkpoint durable and let it appear; `last` then points to it."""
        partial, target = self.partial(step), self.path(step)
        _write_manifest(partial)
        for directory in (*(p for p in partial.rglob("*") if p.is_dir()), partial):
            _sync(directory)
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
        _sync(self.root)
        self.point("last", step)
        return target

    def point(self, name: str, step: int) -> None:
        """Let the link `name` stand for the checkpoint of `step`."""
        link, fresh = self.root / name, self.root / f".{name}.partial"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.path(step).name)
        os.replace(fresh, link)
        _sync(self.root)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        found = (STEP.match(path.name) for path in self.root.iterdir()) if self.root.is_dir() else ()
        return sorted(int(match.group(1)) for match in found if match)

    def adopt(self, source: Path, name: str) -> None:
        """Bring along a checkpoint, of another run or of this one, and let the link `name` stand for it."""
        step = saved_step(source)
        if not self.path(step).exists():
            partial = self.begin(step)
            shutil.copytree(source, partial, dirs_exist_ok=True)
            os.replace(partial, self.path(step))
            _sync(self.root)
        self.point(name, step)

    def prune(self, keep: int | None) -> None:
        """Delete all but the newest `keep` checkpoints, and those that `best` or `last` stand for."""
        if keep is None:
            return
        held = {(self.root / name).resolve() for name in ("best", "last")}
        for step in self.steps()[:-keep]:
            if self.path(step).resolve() not in held:
                shutil.rmtree(self.path(step))


def _candidates(given: Path, prefer: tuple[str, ...]) -> list[Path]:
    return [given, *(given / "checkpoints" / name for name in prefer), *(given / name for name in prefer)]


def is_run(given: Path) -> bool:
    """Whether a directory is a checkpoint of a run, or holds one."""
    return any((candidate / MANIFEST).is_file() for candidate in _candidates(given, ("last", "best")))


def find(path: str, prefer: tuple[str, ...] = ("last", "best")) -> Path:
    """The checkpoint directory that `path` means: itself, or one of a run directory in the order of `prefer`.

    Raises InputError when there is none, or when a file is not what its manifest says.
    """
    for candidate in _candidates(Path(path), prefer):
        if (candidate / MANIFEST).is_file():
            verify(candidate)
            return candidate.resolve()
    raise InputError(f"no checkpoint in {path}: expected a checkpoint or run directory with checkpoints/last")


def newest(root: Path) -> Path | None:
    """The newest checkpoint below `root` that is whole; None where there is none."""
    store = CheckpointStore(root)
    return next((path.resolve() for path in map(store.path, reversed(store.steps())) if is_whole(path)), None)


def is_whole(directory: Path) -> bool:
    """Whether every file of a checkpoint is what its manifest says."""
    try:
        verify(directory)
    except (InputError, OSError, json.JSONDecodeError):
        return False
    return True


def saved_step(checkpoint: Path) -> int:
    """The optimizer step at which a checkpoint directory was saved."""
    match = STEP.match(checkpoint.name)
    if match is None:
        raise InputError(f"{checkpoint} is not a checkpoint of a run: expected a name such as step-000100")
    return int(match.group(1))


def verify(directory: Path) -> None:
    """Raise InputError for a file that is missing or is not what the manifest says."""
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    for name, wanted in manifest.items():
        file = directory / name
        if not file.is_file() or {"size": file.stat().st_size, "sha256": sha256(file)} != wanted:
            raise InputError(f"{file} is damaged: it is not what {MANIFEST} says; take another checkpoint")


def _write_manifest(directory: Path) -> None:
    entries = {}
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        # Some writers keep their files private; a checkpoint is read by whoever serves it.
        file.chmod(0o644)
        entries[file.relative_to(directory).as_posix()] = {"size": file.stat().st_size, "sha256": sha256(file)}
        _sync(file)
    manifest = directory / MANIFEST
    manifest.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    _sync(manifest)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
