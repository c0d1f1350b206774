"""What there is to configure: the groups and options under `conf/`, and the keys of a schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import Field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

CONF = Path(__file__).resolve().parents[2] / "conf"


def groups() -> list[str]:
    """The config groups: the directories of `conf/`, but for Hydra's own."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")


def options(group: str) -> list[str]:
    """The choices of a config group: the YAML files of its directory."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def dataclass_in(hint: Any) -> type | None:
    """The dataclass in a field's type: `X` of the hints X and X | None; None for lists and plain values."""
    arms = (hint, *get_args(hint)) if get_origin(hint) is not list else ()
    return next((arm for arm in arms if is_dataclass(arm) and isinstance(arm, type)), None)


def groups_of(schema: type) -> dict[str, type]:
    """The fields of a schema that are dataclasses: the groups of a root."""
    hints = get_type_hints(schema)
    pairs = ((item.name, dataclass_in(hints[item.name])) for item in fields(schema))
    return {name: group for name, group in pairs if group is not None}


def lists_of(schema: type) -> dict[str, type]:
    """The fields of a schema that are lists of dataclasses, such as the ops of an augmentation."""
    hints = get_type_hints(schema)
    lists = {item.name: get_args(hints[item.name]) for item in fields(schema) if get_origin(hints[item.name]) is list}
    return {name: of[0] for name, of in lists.items() if is_dataclass(of[0]) and isinstance(of[0], type)}


def knob_paths(schema: type, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Every (dotted key, dataclass field) of a schema, nested dataclasses entered."""
    nested = groups_of(schema)
    for item in fields(schema):
        key = f"{prefix}{item.name}"
        yield key, item
        if item.name in nested:
            yield from knob_paths(nested[item.name], f"{key}.")


def spelling(schema: type, name: str) -> str:
    """How a command line writes a knob of the root: its name, unless that is kept for a config group."""
    return next((item.metadata.get("spelled") or name for item in fields(schema) if item.name == name), name)


def nearest_key(key: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`: a key of the same name in another group, or one that looks alike; else what there is."""
    group, _, name = key.rpartition(".")
    keys = [other for other in known if not group or "." in other]
    namesakes = [other for other in keys if _last(other) == name]
    siblings = [other for other in keys if other.rpartition(".")[0] == group]
    for candidates in (namesakes, siblings, keys if not (group and siblings) else []):
        close = get_close_matches(name, map(_last, candidates), n=1)
        if close and len(namesakes) < 2:
            return f"; did you mean '{next(other for other in candidates if _last(other) == close[0])}'?"
    return f"; known: {', '.join(namesakes or siblings or groups())}"


def _last(key: str) -> str:
    return key.rpartition(".")[2]
