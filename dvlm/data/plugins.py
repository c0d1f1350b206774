"""Functions that a configuration names as `package.module:function`: preprocessors and message builders."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections import Counter
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
    return f"{name_of(each)} {digest}"


class Chosen(Sequence[Part]):
    """The records of `parts` at the places `kept`, after preprocessors, each `Record -> Record | None`."""

    def __init__(self, parts: Sequence[Part], kept: Sequence[int], functions: Sequence[Preprocessor]) -> None:
        self.parts, self.kept, self.functions = parts, np.array(kept, np.int64), tuple(functions)

    def __len__(self) -> int:
        return len(self.kept)

    def __repr__(self) -> str:
        places = hashlib.sha256(self.kept.tobytes()).hexdigest()[:16]
        return f"{len(self)} of {self.parts!r} ({places}) after {[identity(each) for each in self.functions]}"

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return preprocess(self.parts[int(self.kept[index])], self.functions)


def preprocess(part: Part, functions: Sequence[Preprocessor], dropped: Counter[str] | None = None) -> Part | None:
    """`part` after every function; None where one drops it, which `dropped` counts by its name.

    Raises InputError for a function that returns something else. An error inside one says which record it met.
    """
    for each in functions:
        after = _call(each, part)
        if after is None:
            if dropped is not None:
                dropped[name_of(each)] += 1
            return None
        part = after
    return part


def _call(each: Preprocessor, part: Part) -> Part | None:
    try:
        after = each(part)
    except Exception as error:
        error.add_note(f"{part.place}: raised by the preprocessor {name_of(each)}")
        raise
    if after is not None and not isinstance(after, type(part)):
        raise InputError(
            f"{part.place}: the preprocessor {name_of(each)} returned a {type(after).__name__}, "
            f"expected a {type(part).__name__}, or None to drop it"
        )
    return after


def name_of(each: Callable[..., Any]) -> str:
    """`package.module:function`."""
    return f"{each.__module__}:{each.__qualname__}"
