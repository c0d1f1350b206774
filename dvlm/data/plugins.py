"""Functions that a configuration names as `package.module:function`: preprocessors and message builders."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dvlm.config import DataConfig
from dvlm.values import Dialogue, InputError, Record

Part = Record | Dialogue
Preprocessor = Callable[[Any], Any]


def function(key: str, name: str) -> Callable[..., Any]:
    """The function that `name` stands for; raises InputError naming the knob `key`."""
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise InputError(f"{key}: '{name}' is no function; write package.module:function")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(f"{key}: '{name}' cannot be found: {error}") from error
    if not inspect.isfunction(found):
        raise InputError(f"{key}: '{name}' is of type {type(found).__name__}, expected a function (def)")
    return found


def functions(data: DataConfig) -> list[Preprocessor]:
    """The preprocessors that the `data` group names, in order."""
    return [function("data.preprocessors", name) for name in data.preprocessors]


def identity(each: Callable[..., Any]) -> str:
    """Name of a function and digest of the file that it stands in: what tells two versions of it apart."""
    file = Path(inspect.getfile(inspect.unwrap(each)))
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    return f"{_name(each)} {digest}"


class Preprocessed(Sequence[Part]):
    """`parts` after preprocessors, each `Record -> Record | None`; None drops the record, counted by function.

    Raises InputError for a function that returns something else, and when nothing is left. An error inside a function
    says which record it met.
    """

    def __init__(self, parts: Sequence[Part], functions: Sequence[Preprocessor]) -> None:
        self.parts, self.functions = parts, tuple(functions)
        self.dropped = dict.fromkeys((_name(each) for each in functions), 0)
        kept = (index for index, part in enumerate(parts) if preprocess(part, self.functions, self.dropped) is not None)
        self.kept = np.fromiter(kept, np.int64)
        if not len(self.kept):
            raise InputError(f"the preprocessors drop every one of {len(parts)} records: {self.dropped}")

    def __len__(self) -> int:
        return len(self.kept)

    def __repr__(self) -> str:
        return f"{len(self)} of {self.parts!r} after {[identity(each) for each in self.functions]}"

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return preprocess(self.parts[int(self.kept[index])], self.functions)


def preprocess(part: Part, functions: Sequence[Preprocessor], dropped: dict[str, int] | None = None) -> Part | None:
    """`part` after every function; None where one drops it, which `dropped` counts by its name."""
    for each in functions:
        after = _call(each, part)
        if after is None:
            if dropped is not None:
                dropped[_name(each)] += 1
            return None
        part = after
    return part


def _call(each: Preprocessor, part: Part) -> Part | None:
    try:
        after = each(part)
    except Exception as error:
        error.add_note(f"{part.place}: raised by the preprocessor {_name(each)}")
        raise
    if after is not None and not isinstance(after, type(part)):
        raise InputError(
            f"{part.place}: the preprocessor {_name(each)} returned a {type(after).__name__}, "
            f"expected a {type(part).__name__}, or None to drop it"
        )
    return after


def _name(each: Callable[..., Any]) -> str:
    return f"{each.__module__}:{each.__qualname__}"
