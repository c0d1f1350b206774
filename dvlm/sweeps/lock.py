"""Who holds a run directory: one process or SLURM job at a time.

A lock is a file `.lock.<n>`; that of the highest number counts. Whoever finds its holder gone takes the next number,
which only one can create. So there is no moment at which two believe that they hold it, on any file system, and a lock
survives a requeue (the job may take it again) but not its holder.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dvlm.durable import born
from dvlm.sweeps import scheduler
from dvlm.sweeps.place import Place
from dvlm.sweeps.status import State, Status, now, read_json, replace_json
from dvlm.values import InputError

NUMBERED = re.compile(r"\.lock\.(\d+)$")
BEAT = 30.0  # seconds between signs of life
EXPIRY = 20 * BEAT  # silence after which a holder on another machine is taken for dead


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a run directory since when, or held it until it was `released`."""

    place: Place
    since: str
    released: bool = False

    def __str__(self) -> str:
        where = f"process {self.place.pid} on {self.place.host}"
        return f"{f'SLURM job {self.place.slurm}' if self.place.slurm else where} since {self.since}"


def holder(directory: Path) -> Holder | None:
    """Who holds the run in `directory` at the moment; None where nobody does."""
    newest = _newest(directory)
    return _living(_file(directory, newest)) if newest else None


def claim(directory: Path, place: Place) -> Path:
    """Let `place` hold the run in `directory`; the lock's file. Raises InputError where somebody else does."""
    directory.mkdir(parents=True, exist_ok=True)
    newest = _newest(directory)
    current = _living(_file(directory, newest)) if newest else None
    if current is not None and not _same(current.place, place):
        raise InputError(f"{directory} is held by {current}; wait for it, or end it first")
    file = _file(directory, newest + 1)
    fresh = file.with_name(f"{file.name}.{place.host}.{place.pid}")
    replace_json(fresh, asdict(Holder(place=place, since=now())))
    try:
        os.link(fresh, file)
    except FileExistsError:
        raise InputError(f"{directory} was taken by {_read(file)} at the same moment") from None
    finally:
        fresh.unlink()
    if _newest(directory) != newest + 1:
        # Others came and went since the look at the newest; the last of them holds it.
        file.unlink()
        raise InputError(f"{directory} was taken by another process at the same moment")
    for older in range(1, newest + 1):
        _file(directory, older).unlink(missing_ok=True)
    return file


def release(file: Path) -> None:
    """Say that the lock is free. The file stays: the next holder takes the next number."""
    found = _read(file)
    if found is not None:
        replace_json(file, asdict(replace(found, released=True)))


@contextmanager
def held(directory: Path, place: Place) -> Iterator[None]:
    """Hold the run in `directory` during the block, with a sign of life every `BEAT` seconds."""
    file = claim(directory, place)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(FileNotFoundError):  # a launcher holds on for its job as well
                os.utime(file)

    thread = threading.Thread(target=beat, name="sign of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        release(file)


def observed(directory: Path) -> Status | None:
    """The status of a run, seen from outside: one that says `running` and is held by nobody was killed."""
    status = Status.read(directory)
    if status is None or status.state is not State.RUNNING or holder(directory) is not None:
        return status
    # It may have ended between the two looks.
    status = Status.read(directory)
    if status is None or status.state is not State.RUNNING:
        return status
    return replace(status, state=State.FAILED, error=status.error or f"killed; last seen at step {status.step}")


def _living(file: Path) -> Holder | None:
    found = _read(file)
    if found is None or found.released:
        return None
    place = found.place
    if place.slurm and (jobs := scheduler.states()) is not None:
        return found if jobs.get(place.slurm) in scheduler.ACTIVE else None
    this = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    if place.boot == this:
        return found if born(place.pid) == place.born else None
    return found if time.time() - file.stat().st_mtime < EXPIRY else None


def _same(ours: Place, theirs: Place) -> bool:
    if ours.slurm or theirs.slurm:
        return ours.slurm == theirs.slurm
    return (ours.boot, ours.pid, ours.born) == (theirs.boot, theirs.pid, theirs.born)


def _newest(directory: Path) -> int:
    names = (NUMBERED.match(path.name) for path in directory.iterdir()) if directory.is_dir() else ()
    return max((int(match.group(1)) for match in names if match), default=0)


def _file(directory: Path, number: int) -> Path:
    return directory / f".lock.{number}"


def _read(file: Path) -> Holder | None:
    found = read_json(file)
    return None if found is None else Holder(**found | {"place": Place(**found["place"])})
