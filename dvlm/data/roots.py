"""Folders that images must lie in, whatever paths the records hold."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from dvlm.values import InputError


def existing(key: str, roots: Iterable[str]) -> list[str]:
    """The absolute paths of `roots`; raises InputError, naming the knob `key`, for one that is no folder."""
    found = [Path(root) for root in roots]
    for root in found:
        if not root.is_dir():
            raise InputError(f"{key}: {root} is no folder; expected one that holds images, or null")
    return [str(root.resolve()) for root in found]


def inside(path: Path, roots: Iterable[str]) -> bool:
    """Whether `path` lies in one of `roots`, once `..` and all symbolic links are followed; no roots confine nothing.

    What cannot be a path at all lies nowhere.
    """
    allowed = tuple(roots)
    try:
        return not allowed or any(Path(os.path.realpath(path)).is_relative_to(root) for root in _real(allowed))
    except ValueError:  # a zero byte
        return False


@lru_cache(maxsize=16)
def _real(roots: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(os.path.realpath, roots))
