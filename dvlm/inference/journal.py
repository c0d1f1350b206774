"""What was answered so far: an append-only file beside the output, so that a killed run loses and repeats nothing.

The first line says what the answers depend on, each other one holds one answer. Lines are written together and synced;
a line that was cut off is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvlm.values import InputError

Line = dict[str, Any]
SUFFIX = ".journal"


@dataclass(frozen=True)
class Journal:
    """One file; only one process may write it."""

    path: Path

    @classmethod
    def beside(cls, output: Path, part: str = "") -> Journal:
        """The journal of an output file, or of a part of it."""
        return cls(output.with_name(f"{output.name}{part and f'.{part}'}{SUFFIX}"))

    @classmethod
    def all_beside(cls, output: Path) -> list[Journal]:
        """The journals of an output file and of all its parts."""
        if not output.parent.is_dir():
            return []
        names = sorted(path.name for path in output.parent.iterdir() if path.name.endswith(SUFFIX))
        return [cls(output.with_name(name)) for name in names if name.startswith(f"{output.name}.")]

    def begin(self, about: Line) -> None:
        """Make the file with its first line, or cut off what a killed run left of a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._whole() if self.path.exists() else b""
        if not kept:
            self.path.unlink(missing_ok=True)
            self.add([about])
        elif len(kept) < self.path.stat().st_size:
            os.truncate(self.path, len(kept))

    def add(self, lines: Iterable[Line]) -> None:
        """Append lines; they are on the disk when this returns."""
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with self.path.open("ab") as handle:
            handle.write(text.encode())
            handle.flush()
            os.fsync(handle.fileno())

    def read(self) -> list[Line]:
        """The lines, the first one included; raises InputError for one that is not JSON."""
        try:
            return [json.loads(line) for line in self._whole().decode().split("\n")[:-1]]
        except ValueError as error:
            raise InputError(f"{self.path} is damaged: {error}; start anew with overwrite=true") from error

    def _whole(self) -> bytes:
        content = self.path.read_bytes()
        return content[: content.rfind(b"\n") + 1]
