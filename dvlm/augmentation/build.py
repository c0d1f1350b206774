"""From the `ops` of a YAML file to op objects; every mistake is named by its key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from dvlm.augmentation.op import OPS, Op


def build_op(item: Mapping[str, Any], place: str) -> Op:
    """The op of one item `{"name": "hflip", "params": {"prob": 0.3}}`; `place` is its key, `augmentation.ops[1]`.

    Raises ValueError for an unknown key, op or parameter, with the nearest right one, and for a bad value.
    """
    if not isinstance(item, Mapping) or "name" not in item:
        raise ValueError(f"{place} must be a mapping with `name` and, if need be, `params`; got {item!r}")
    for key in item:
        if key not in ("name", "params"):
            raise ValueError(f"{place}.{key}: an op has no such key; {_hint(key, ('name', 'params'))}")
    name, params = item["name"], item.get("params") or {}
    if name not in OPS:
        raise ValueError(f"{place}.name: there is no op {name!r}; {_hint(name, OPS)}")
    if not isinstance(params, Mapping):
        raise ValueError(f"{place}.params must be a mapping of {name}'s parameters, got {params!r}")
    known = [field.name for field in fields(OPS[name])]
    for key in params:
        if key not in known:
            raise ValueError(f"{place}.params.{key}: {name} has no such parameter; {_hint(key, known)}")
    return _construct(name, {key: _frozen(value) for key, value in params.items()}, place)


def _construct(name: str, params: dict[str, Any], place: str) -> Op:
    try:
        return OPS[name](**params)
    except ValueError as error:
        # The op says `hflip.prob must be ...`; the reader of a YAML file looks for the key.
        raise ValueError(str(error).replace(f"{name}.", f"{place}.params.", 1) + f" (op {name})") from error
    except TypeError as error:
        raise ValueError(f"{place}.params: {error} (op {name})") from error


def _frozen(value: Any) -> Any:
    """Lists become tuples, so that an op is hashable."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _hint(wrong: Any, known: Iterable[str]) -> str:
    """The nearest known word, or all of them."""
    known = list(known)
    near = get_close_matches(str(wrong), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"
