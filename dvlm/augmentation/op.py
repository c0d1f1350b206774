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

    def check(self, field: str, holds: bool, expected: str) -> None:
        """Raise ValueError, `hflip.prob must be <expected>, got <value>`, unless the field's value holds."""
        if not holds:
            value = getattr(self, field)
            raise ValueError(f"{self.name}.{field} must be {expected}, got {_as_in_yaml(value)!r}")

    def check_number(self, field: str, low: float, high: float) -> None:
        """The field must be a number in [low, high]."""
        value = getattr(self, field)
        self.check(field, _is_number(value) and low <= value <= high, f"a number in [{low:g}, {high:g}]")

    def check_whole(self, field: str, low: int) -> None:
        """The field must be a whole number of at least `low`."""
        value = getattr(self, field)
        whole = isinstance(value, int) and not isinstance(value, bool)
        self.check(field, whole and value >= low, f"a whole number of at least {low}")

    def check_range(self, field: str, low: float, high: float) -> None:
        """The field must be a pair of ascending numbers in [low, high]."""
        value = getattr(self, field)
        pair = isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
        self.check(field, pair and low <= value[0] <= value[1] <= high, f"[low, high] in [{low:g}, {high:g}]")

    def check_ascending(self, lower: str, upper: str, low: float, high: float) -> None:
        """Both fields must be numbers in [low, high], the first not above the second."""
        self.check_number(lower, low, high)
        self.check_number(upper, low, high)
        top = getattr(self, upper)
        self.check(lower, getattr(self, lower) <= top, f"at most {upper}, {top}")

    def check_words(self, field: str) -> None:
        """The field must be a list of texts that are not empty."""
        value = getattr(self, field)
        self.check(field, isinstance(value, tuple) and all(map(_is_word, value)), "a list of words")

    def check_word(self, field: str) -> None:
        """The field must be a text that is not empty."""
        self.check(field, _is_word(getattr(self, field)), "a word")

    def check_flag(self, field: str) -> None:
        """The field must be true or false."""
        self.check(field, isinstance(getattr(self, field), bool), "true or false")


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
            raise ValueError(f"the op {name!r} is registered twice: {OPS[name].__name__} and {cls.__name__}")
        cls.name = name
        OPS[name] = cls
        return cls

    return add


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _as_in_yaml(value: Any) -> Any:
    return [_as_in_yaml(each) for each in value] if isinstance(value, tuple) else value
