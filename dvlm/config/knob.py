"""How a knob is declared and checked: a default, a one-line meaning, a unit, and errors that name the way out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from difflib import get_close_matches
from typing import Any


def knob(default: Any, doc: str, unit: str = "", *, path: bool = False) -> Any:
    """A dataclass field with its meaning and unit; `path` marks a file or directory, whose value may hold any text."""
    metadata = {"doc": doc, "unit": unit, "path": path}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(schema: type) -> Any:
    """A field that a config group fills: OmegaConf takes the class itself, so no instance is checked before its values."""
    return field(default_factory=lambda: schema)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, else the list of all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(names)}"


def one_of(key: str, value: str, known: Iterable[str]) -> None:
    """Raise ValueError unless `value` is among `known`."""
    names = list(known)
    if value not in names:
        raise ValueError(f"{key} is '{value}', expected one of {', '.join(names)}{nearest(value, names)}")


def at_least(key: str, value: float | None, low: float, *, above: bool = False) -> None:
    """Raise ValueError when `value` is below `low` (or equal to it, with `above`). None passes."""
    if value is not None and (value < low or (above and value == low) or value != value):
        raise ValueError(f"{key} is {value}, expected {'more than' if above else 'at least'} {low}")


def within(key: str, value: float | None, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high. None passes."""
    if value is not None and not low <= value <= high:
        raise ValueError(f"{key} is {value}, expected a number from {low} to {high}")
