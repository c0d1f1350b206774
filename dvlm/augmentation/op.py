"""What an op is, and the registry of their names."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import numpy as np

from dvlm.augmentation.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Op(ABC):
    """One augmentation as in YAML: its parameters are its fields, checked when it is built.

    `always`: the op also holds for bypassed, validation and inference images.
    """

    name: ClassVar[str]
    always: ClassVar[bool] = False

    def applies(self, coin: float) -> bool:
        """Whether the op acts on this image, given a uniform number from [0, 1)."""
        return True

    @abstractmethod
    def draw(self, scene: Scene, rng: np.random.Generator) -> Scene:
        """Draw the op's choices from `rng`, its own generator, and say what becomes of the image. No pixels."""

    def check_number(self, field: str, low: float, high: float = math.inf) -> None:
        """Raise ValueError unless the field is a finite number in [low, high]."""
        value = getattr(self, field)
        if not _is_number(value) or not low <= value <= high:
            raise ValueError(f"{self.name}.{field} must be {_bounds('a number', low, high)}, got {value!r}")

    def check_whole(self, field: str, low: int) -> None:
        """Raise ValueError unless the field is a whole number of at least `low`."""
        value = getattr(self, field)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError(f"{self.name}.{field} must be {_bounds('a whole number', low, math.inf)}, got {value!r}")

    def check_range(self, field: str, low: float, high: float = math.inf) -> None:
        """Raise ValueError unless the field is a pair of ascending numbers in [low, high]."""
        value = getattr(self, field)
        pair = isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
        if not pair or not low <= value[0] <= value[1] <= high:
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(f"{self.name}.{field} must be {_bounds('[low, high]', low, high)}, got {shown!r}")

    def check_ascending(self, lower: str, upper: str, low: float, high: float) -> None:
        """Raise ValueError unless both fields are numbers in [low, high] and the first is not above the second."""
        self.check_number(lower, low, high)
        self.check_number(upper, low, high)
        first, second = getattr(self, lower), getattr(self, upper)
        if first > second:
            raise ValueError(f"{self.name}.{lower} must not be above {upper}, got {first} and {second}")

    def check_flag(self, field: str) -> None:
        """Raise ValueError unless the field is true or false."""
        if not isinstance(getattr(self, field), bool):
            raise ValueError(f"{self.name}.{field} must be true or false, got {getattr(self, field)!r}")

    def check_word(self, field: str) -> None:
        """Raise ValueError unless the field is a text that is not empty."""
        value = getattr(self, field)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{self.name}.{field} must be a word, got {value!r}")

    def check_words(self, field: str) -> None:
        """Raise ValueError unless the field is a list of texts that are not empty."""
        value = getattr(self, field)
        if not isinstance(value, tuple) or not all(isinstance(word, str) and word for word in value):
            raise ValueError(f"{self.name}.{field} must be a list of words, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class ChanceOp(Op):
    """An op that acts on the share `prob` of the images."""

    prob: float = 0.5

    def __post_init__(self) -> None:
        self.check_number("prob", 0, 1)

    def applies(self, coin: float) -> bool:
        return coin < self.prob


OPS: Final[dict[str, type[Op]]] = {}
_Class = TypeVar("_Class", bound=type[Op])


def register(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: the op's name in YAML. Raises ValueError if the name is taken."""

    def add(cls: _Class) -> _Class:
        if name in OPS:
            raise ValueError(f"the op {name!r} is registered twice: {OPS[name].__qualname__} and {cls.__qualname__}")
        cls.name = name
        OPS[name] = cls
        return cls

    return add


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bounds(what: str, low: float, high: float) -> str:
    return f"{what} in [{low:g}, {high:g}]" if high < math.inf else f"{what} of at least {low:g}"
