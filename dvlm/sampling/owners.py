"""The sweepers of a study: each holds a lock of its own in the sweep's directory for as long as it lives."""

from __future__ import annotations

from pathlib import Path

from dvlm.sweeps import lock
from dvlm.sweeps.place import Place

OWNERS = ".samplers"


def name(place: Place) -> str:
    """What the sweeper at `place` is called."""
    return f"{place.host}-{place.pid}-{place.born}"


def directory(sweep: Path, owner: str) -> Path:
    """Where the lock of a sweeper is."""
    return sweep / OWNERS / owner


def lives(sweep: Path, owner: str) -> bool:
    """Whether a sweeper of that name is still there; nobody is called by an empty name."""
    return bool(owner) and lock.holder(directory(sweep, owner)) is not None


def any_lives(sweep: Path) -> bool:
    """Whether anybody still draws trials for the sweep."""
    return any(lives(sweep, each.name) for each in (sweep / OWNERS).glob("*"))
