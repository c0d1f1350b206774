"""Writing that leaves nothing half there: beside the target, under a name that tells the writer, synced, renamed.

So whoever reads sees the old content or the new one, and what a dead writer left is told from what a living one writes.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvlm.values import InputError

SCRATCH = re.compile(r"\.(?P<target>.+)\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<born>\d+)-[0-9a-f]{8}\.tmp$")
SILENT = 3600.0  # seconds without a write after which a writer on another machine counts as dead
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)
RUST = re.compile(r"\(os error (\d+)\)")  # how safetensors and tokenizers tell an errno


class DiskError(InputError):
    """The disk refused: it is full, beyond a quota, or broken."""


@functools.cache
def machine() -> str:
    """This machine since its last start, and the numbering of its processes that a container may have of its own:
    8 hex digits."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return hashlib.sha256(f"{boot} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]


def born(pid: int) -> int | None:
    """When a process of this machine started, in ticks since the machine did; None where there is none, or a dead one
    that nobody has waited for. With it, a process that got an old number is not taken for its predecessor."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def beside(target: Path) -> Path:
    """A new hidden name in the directory of `target` that tells who writes there."""
    pid = os.getpid()
    # A name has 255 bytes at most, of which the target may need all.
    return target.with_name(f".{target.name[:40]}.{machine()}-{pid}-{born(pid) or 0}-{uuid.uuid4().hex[:8]}.tmp")


def meant(scratch: Path) -> Path:
    """The target of a name that `beside` gave."""
    match = SCRATCH.match(scratch.name)
    assert match, scratch
    return scratch.with_name(match["target"])


def abandoned(path: Path) -> bool:
    """Whether `path` has a name of `beside` and its writer is dead: gone from this machine, or silent on another."""
    match = SCRATCH.match(path.name)
    if match is None:
        return False
    if match["machine"] == machine():
        return (born(int(match["pid"])) or 0) != int(match["born"])
    try:
        written = max(each.stat().st_mtime for each in (path, *path.rglob("*")))
    except FileNotFoundError:  # it is being finished or removed at this moment
        return False
    return time.time() - written > SILENT


def clean(directory: Path, *, deep: bool = False) -> None:
    """Remove what dead writers left in `directory`; `deep`: and below it."""
    for path in (directory.rglob if deep else directory.glob)(".*.tmp"):
        if abandoned(path):
            remove(path)


def remove(path: Path) -> None:
    """Delete a file or a directory. What cannot be deleted now (NFS keeps open files) is at the next cleaning."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def appearing(target: Path, *, synced: bool = True, shared: bool = False) -> Iterator[Path]:
    """A path to write a file or a directory at: it takes the place of `target` when the block ends, and nothing of it
    is left when that raises. `synced`: it is on the disk then. `shared`: others may make the same directory at this
    moment, and that of the first stays. Parents are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = beside(target)
    try:
        yield scratch
        if synced:
            for path in (*scratch.rglob("*"), scratch):
                sync(path)
        if shared:
            _put_first(scratch, target)
        else:
            put(scratch, target)
        if synced:
            sync(target.parent)
    except BaseException as error:
        remove(scratch)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(target)  # a write that is refused does not say where
        raise


def put(fresh: Path, target: Path) -> None:
    """Rename `fresh` to `target`. A directory in its place is put back where that fails, and else removed."""
    if not (fresh.is_dir() and target.is_dir()):
        os.replace(fresh, target)
        return
    aside = beside(target)
    os.replace(target, aside)
    try:
        os.replace(fresh, target)
    except OSError:
        os.replace(aside, target)
        raise
    remove(aside)


def _put_first(fresh: Path, target: Path) -> None:
    try:
        os.replace(fresh, target)
    except OSError:
        if not target.is_dir():
            raise
        remove(fresh)


def replace_text(target: Path, text: str) -> None:
    """Let a file hold `text`, in UTF-8."""
    with appearing(target) as scratch:
        scratch.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refusal(error: BaseException) -> str | None:
    """What the disk said, where an error or one behind it comes from a disk that refused; else None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        found = RUST.search(str(error))
        number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
        if number in REFUSALS:
            name = getattr(error, "filename", None)
            return f"{os.strerror(number)}{f': {name}' if name else ''}"
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return None


def free(directory: Path) -> str:
    """How much may still be written there, for messages."""
    there = next(each for each in (directory, *directory.absolute().parents) if each.is_dir())
    return f"{shutil.disk_usage(there).free / 2**20:,.0f} MiB are free in {there}"
