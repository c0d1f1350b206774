"""Functions that a configuration names as `package.module:function`: preprocessors and message builders."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from dvlm.values import Dialogue, InputError, Record

Part = Record | Dialogue
Preprocessor = Callable[[Any], Any]


def function(key: str, name: str) -> Callable[..., Any]:
    """The function that `name` stands for; raises InputError naming the knob `key`."""
    module, colon, attribute = name.partition(":")
    if not colon:
        raise InputError(f"{key}: '{name}' is no function; write package.module:function")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{key}: '{name}' cannot be found: {error}") from error
    if not callable(found):
        raise InputError(f"{key}: '{name}' is a {type(found).__name__}, expected a function")
    return found


class Preprocessed(Sequence[Part]):
    """`parts` after preprocessors, each `Record -> Record | None`; None drops the record, counted by function."""

    def __init__(self, parts: Sequence[Part], functions: Sequence[Preprocessor]) -> None:
        self.parts, self.functions = parts, tuple(functions)
        self.dropped = dict.fromkeys((_name(each) for each in functions), 0)
        self.kept = [index for index in range(len(parts)) if self._apply(parts[index], count=True) is not None]
        if not self.kept:
            raise InputError(f"the preprocessors drop every one of {len(parts)} records: {self.dropped}")

    def __len__(self) -> int:
        return len(self.kept)

    def __repr__(self) -> str:
        return f"{self.parts!r} less {self.dropped}"

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._apply(self.parts[self.kept[index]])

    def _apply(self, part: Any, *, count: bool = False) -> Any:
        for each in self.functions:
            part = each(part)
            if part is None:
                if count:
                    self.dropped[_name(each)] += 1
                return None
        return part


def _name(each: Preprocessor) -> str:
    return f"{each.__module__}:{each.__qualname__}"
