"""How a knob is declared and checked: a default, a one-line meaning, a unit, and errors that name the way out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field, fields
from difflib import get_close_matches
from math import isfinite
from typing import Any


def knob(
    default: Any,
    doc: str,
    unit: str = "",
    *,
    path: bool = False,
    many: bool = False,
    text: bool = False,
    spelled: str = "",
) -> Any:
    """A dataclass field with its meaning and unit.

    `path` marks a file or directory, `many` one or a list `[...]` of them, `text` any other value that may hold every
    character: command lines quote these (a list not: its values need quotes of their own).
    `spelled` is its name on the command line where that is the name of a config group, which Hydra keeps to itself.
    """
    metadata = {"doc": doc, "unit": unit, "path": path, "many": many, "text": path or many or text, "spelled": spelled}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(schema: type) -> Any:
    """A field that a config group fills. OmegaConf takes the class itself: no instance is checked before its values."""
    return field(default_factory=lambda: schema)


def nearest(name: str, known: Iterable[str], *, shown: Sequence[str] = ()) -> str:
    """`; did you mean 'x'?` for the nearest known name, else `; known: ` and all of them, or those in `shown`."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(shown or names)}"


def one_of(key: str, value: str, known: Iterable[str]) -> None:
    """Raise ValueError unless `value` is among `known`."""
    names = list(known)
    if value not in names:
        raise ValueError(f"{key} is '{value}'{nearest(str(value), names, shown=names)}")


def at_least(key: str, value: float | None, low: float, *, above: bool = False) -> None:
    """Raise ValueError unless `value` is finite and at least `low` (more than it, with `above`). None passes."""
    if value is not None and not (isfinite(value) and (value > low or (value == low and not above))):
        raise ValueError(f"{key} is {value}, expected {'a number above' if above else 'at least'} {low}")


def within(key: str, value: float | None, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high. None passes."""
    if value is not None and not low <= value <= high:
        raise ValueError(f"{key} is {value}, expected a number from {low} to {high}")


def pattern_with_group(key: str, pattern: str, words: str) -> None:
    """Raise ValueError unless `pattern` is a regular expression with brackets; `words` are the other choices."""
    try:
        brackets = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{key} is '{pattern}', not a regular expression: {error}") from error
    if not brackets:
        way = r"brackets around what names the group, such as '(\d+)_'"
        raise ValueError(f"{key} is '{pattern}', expected {words}, or a pattern with {way}")


def check_paths(prefix: str, config: Any) -> None:
    """Raise ValueError for an empty path knob of the dataclass `config`: it would stand for the working directory."""
    for item in fields(config):
        if item.metadata.get("path") and getattr(config, item.name) == "":
            name = item.metadata.get("spelled") or item.name
            raise ValueError(f"{prefix}{name} is empty, expected a path, or null where there is none")


def paths(key: str, value: Any) -> list[str]:
    """A path, a list of paths, or None, as a list; raises ValueError for anything else."""
    found = [value] if isinstance(value, str) else value or []
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise ValueError(f"{key} is {value!r}, expected a path, a list of paths such as [/a,/b], or null")
    return found
