"""Tensors of hidden states in a directory that many processes read, fill and bound at once, without a lock.

An entry is one safetensors file with the checksum of its bytes. It appears by rename, so that it is whole or absent;
two processes that write one entry write the same. Whoever has it mapped keeps it when another removes it.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dvlm import durable

SUFFIX, STATES, CHECKSUM = ".safetensors", "states", "crc32"
SLICES = 64  # of the limit: after writing so much a process looks again how much all have written
ROOM = 0.95  # of the limit is what eviction leaves
TRIES = 3  # at reading an entry, before it counts as damaged


class StateStore:
    """Hidden states (S, H) by key, at most `limit` bytes of them; what was not read for longest goes first.

    Processes that write at the same time may together exceed the limit by 1/64 each.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self.root, self.limit = root, limit
        self._unseen = 0  # bytes that may be written before the next look at the whole directory

    def read(self, key: str, rows: int) -> Tensor | None:
        """The states (rows, H) under `key`, mapped from the file; None where there are none, or none that are whole."""
        path = self._path(key)
        for tries_left in reversed(range(TRIES)):
            try:
                states = _load(path, rows)
                break
            except (SafetensorError, OSError, RuntimeError) as error:
                # torch opens the file a second time, by name: a RuntimeError where it has just been evicted, and a
                # moment later another process may have written it again.
                if not path.exists():
                    return None
                if not tries_left:
                    warnings.warn(f"teacher cache: {path} is damaged and computed anew: {error}", stacklevel=2)
                    _remove(path)
                    return None
        with suppress(OSError):  # another process may just have evicted it: what was read stays
            os.utime(path)
        return states

    def write(self, key: str, states: Tensor) -> None:
        """Put `states` (S, H) under `key`. A disk that is full or gone costs a warning, never the run."""
        path = self._path(key)
        states = states.detach().cpu().contiguous()
        try:
            self._make_room(states.nbytes)
            with durable.appearing(path, synced=False) as scratch:
                save_file({STATES: states}, scratch, {CHECKSUM: checksum(states)})
        except (OSError, SafetensorError) as error:
            warnings.warn(f"teacher cache: {path} cannot be written, going on without it: {error}", stacklevel=2)

    def size(self) -> int:
        """The bytes of all entries."""
        return sum(size for _, size, _ in self._entries())

    def _path(self, key: str) -> Path:
        group, _, name = key.rpartition("/")
        return self.root / group / name[:2] / f"{name}{SUFFIX}"

    def _make_room(self, more: int) -> None:
        """Evict where `more` bytes would exceed the limit, looking at the directory once in a while only."""
        self._unseen -= more
        if self._unseen >= 0:
            return
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        if total + more > self.limit:
            for _, size, path in entries:
                if total + more <= ROOM * self.limit:
                    break
                _remove(Path(path))
                total -= size
        self._unseen = min(max(self.limit - total - more, 0), self.limit // SLICES)

    def _entries(self) -> Iterator[tuple[float, int, str]]:
        """(time of last use, bytes, path) of every entry; temporary files of dead processes are removed."""
        folders = [str(self.root)]
        while folders:
            try:
                found = list(os.scandir(folders.pop()))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.path)
                    continue
                try:
                    facts = item.stat()
                except FileNotFoundError:  # evicted or renamed a moment ago
                    continue
                if item.name.endswith(SUFFIX):
                    yield facts.st_mtime, facts.st_size, item.path
                elif durable.abandoned(Path(item.path)):
                    _remove(Path(item.path))


def _load(path: Path, rows: int) -> Tensor:
    """The states of an entry; raises SafetensorError where they are not what was written."""
    with safe_open(path, framework="pt") as file:
        facts = file.metadata() or {}
        if STATES not in file.keys() or CHECKSUM not in facts:  # noqa: SIM118
            raise SafetensorError("it is no entry of this cache")
        states = file.get_tensor(STATES)
    if len(states) != rows or checksum(states) != facts[CHECKSUM]:
        raise SafetensorError("its bytes are not those that were written")
    return states


def _remove(path: Path) -> None:
    """Delete a file that may be gone, or lie where nothing can be deleted: whatever else is wrong will show."""
    with suppress(OSError):
        path.unlink()


def checksum(states: Tensor) -> str:
    """CRC-32 of the bytes of a contiguous tensor, as 8 hex digits."""
    return f"{zlib.crc32(states.view(torch.uint8).numpy().data):08x}"
