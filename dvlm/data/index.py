"""A JSONL file as a sequence: two numbers a line are kept, a record is parsed when it is asked for.

So a million records cost 16 MB and no Python objects; the file itself is mapped into memory, shared by all workers.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from dvlm.data.records import BOM, LONGEST_LINE, check_kind, ended, parse
from dvlm.values import Dialogue, InputError, Record

BLANK = b" \t\r\n\v\f"
WINDOW = 1 << 26  # bytes scanned at once for line ends


class RecordFile(Sequence[Record | Dialogue]):
    """The first `limit` non-blank lines of `file`; raises InputError for a file that is empty or cannot be read.

    `kind` is that of the first line that can be read; to ask for a bad line, or one of the other kind, raises.
    """

    def __init__(self, file: Path, limit: int | None = None) -> None:
        self.file = file
        self._bytes = _mapped(file)
        starts, numbers = _lines(self._bytes)
        self._starts, self._numbers = starts[:limit], numbers[:limit]
        if not len(self):
            raise InputError(f"{file}: no records: the file is empty")
        self.kind: type[Record | Dialogue] | None = None
        self.kind = self._first_kind()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Record | Dialogue: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record | Dialogue]: ...
    def __getitem__(self, index: int | slice) -> Record | Dialogue | Sequence[Record | Dialogue]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = int(self._starts[index])
        most = min(len(self._bytes), start + LONGEST_LINE + 2)  # of a line that is too long, a piece to be refused
        end = self._bytes.find(b"\n", start, most)
        raw = self._bytes[start : end if end >= 0 else most]
        part = parse(self.file, int(self._numbers[index]), ended(raw))
        if self.kind is not None:
            check_kind(part, self.kind)
        return part

    def _first_kind(self) -> type[Record | Dialogue]:
        for index in range(len(self)):
            try:
                return type(self[index])
            except InputError:
                continue
        return Record

    def __repr__(self) -> str:
        return f"{len(self)} records"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_bytes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bytes = _mapped(self.file)


def _mapped(file: Path) -> mmap.mmap:
    try:
        with file.open("rb") as handle:
            return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise InputError(f"{file}: {reason}; check data.train_jsonl and data.val_jsonl") from error
    except ValueError as error:
        raise InputError(f"{file}: no records: the file is empty") from error


def _lines(data: mmap.mmap) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offset and number (from 1) of each line that is not blank; the first begins behind a byte order mark."""
    ends = [
        np.flatnonzero(np.frombuffer(data[at : at + WINDOW], np.uint8) == ord("\n")) + at
        for at in range(0, len(data), WINDOW)
    ]
    first_start = len(BOM) if data[: len(BOM)] == BOM else 0
    starts = np.concatenate([[first_start], *(found + 1 for found in ends)]).astype(np.int64)
    starts = starts[starts < len(data)]
    first = np.frombuffer(data, np.uint8)[starts]
    keep = np.ones(len(starts), bool)
    # Few lines begin with white space: only those are looked at in full.
    for i in np.flatnonzero(np.isin(first, np.frombuffer(BLANK, np.uint8))):
        stop = int(starts[i + 1]) if i + 1 < len(starts) else len(data)
        keep[i] = bool(data[int(starts[i]) : stop].strip())
    return starts[keep], np.flatnonzero(keep) + 1
