"""Several sources as one: an epoch takes from each as many turns as its weight asks for.

A source of weight 0.5 shows half of its turns in an epoch and the other half in the next; of weight 2, all of them
twice, paired anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvlm.data.encode import Encoder
from dvlm.data.line import Line
from dvlm.values import BadRecord, Drawn, Sample, Turn


class Source(Protocol):
    """What a plan is made of and a loader serves: a `Line`, or a `Mixture` of lines."""

    @property
    def seed(self) -> int:
        """What the order of its packs is drawn from."""

    @property
    def encoder(self) -> Encoder:
        """What encodes its turns."""

    @property
    def records(self) -> int:
        """Records to choose from."""

    @property
    def turns(self) -> int:
        """Turns of one epoch."""

    @property
    def bad(self) -> tuple[BadRecord, ...]:
        """Records that are left out."""

    @property
    def cacheable(self) -> bool:
        """Whether `settings` determine the lengths."""

    def turn(self, epoch: int, index: int) -> Turn:
        """Turn `index` of `epoch`."""

    def sample(self, epoch: int, index: int) -> Sample:
        """The encoded sample of a turn."""

    def draw(self, turn: Turn) -> tuple[Drawn, ...]:
        """What augmentation decides for a turn's images."""

    def messages(self, turn: Turn, drawn: tuple[Drawn, ...]) -> list[dict[str, Any]]:
        """The turn as messages."""

    def lengths(self, epoch: int, indices: Iterable[int]) -> NDArray[np.int64]:
        """(n, 2): tokens and supervised tokens."""

    def settings(self) -> dict[str, Any]:
        """All that a length depends on."""


@dataclass(frozen=True)
class Mixture:
    """Lines one after the other in the numbering of an epoch's turns; the plan shuffles them."""

    lines: tuple[Line, ...]
    weights: tuple[float, ...]
    seed: int

    @property
    def encoder(self) -> Encoder:
        """The encoder that all lines share."""
        return self.lines[0].encoder

    @property
    def records(self) -> int:
        """Records of all lines together."""
        return sum(line.records for line in self.lines)

    @property
    def counts(self) -> tuple[int, ...]:
        """Turns of each line in one epoch: its own number times its weight, at least one."""
        return tuple(max(1, round(weight * line.turns)) for line, weight in zip(self.lines, self.weights, strict=True))

    @property
    def turns(self) -> int:
        """Turns of one epoch."""
        return sum(self.counts)

    @property
    def bad(self) -> tuple[BadRecord, ...]:
        """Records that are left out, line by line."""
        return tuple(record for line in self.lines for record in line.bad)

    @property
    def cacheable(self) -> bool:
        """Whether every line is."""
        return all(line.cacheable for line in self.lines)

    def locate(self, epoch: int, index: int) -> tuple[Line, int, int]:
        """The line of a turn, and its epoch and index there: each line counts its turns on through all epochs."""
        for line, count in zip(self.lines, self.counts, strict=True):
            if index < count:
                return line, *divmod(epoch * count + index, line.turns)
            index -= count
        raise IndexError(f"an epoch has {self.turns} turns")

    def turn(self, epoch: int, index: int) -> Turn:
        """Turn `index` of `epoch`."""
        line, own_epoch, own_index = self.locate(epoch, index)
        return line.turn(own_epoch, own_index)

    def draw(self, turn: Turn) -> tuple[Drawn, ...]:
        """What augmentation decides for a turn's images."""
        return self._of(turn).draw(turn)

    def messages(self, turn: Turn, drawn: tuple[Drawn, ...]) -> list[dict[str, Any]]:
        """The turn as messages, as its source builds them."""
        return self._of(turn).messages(turn, drawn)

    def _of(self, turn: Turn) -> Line:
        return next(line for line in self.lines if line.source == turn.source)

    def sample(self, epoch: int, index: int) -> Sample:
        """The encoded sample of turn `index` of `epoch`."""
        line, own_epoch, own_index = self.locate(epoch, index)
        return line.sample(own_epoch, own_index)

    def lengths(self, epoch: int, indices: Iterable[int]) -> NDArray[np.int64]:
        """(n, 2): tokens and supervised tokens of the turns at `indices`."""
        rows = [np.zeros((0, 2), np.int64)]
        located = [self.locate(epoch, index) for index in indices]
        start = 0
        while start < len(located):
            line, own_epoch, _ = located[start]
            stop = start
            while stop < len(located) and located[stop][0] is line and located[stop][1] == own_epoch:
                stop += 1
            rows.append(line.lengths(own_epoch, [index for _, _, index in located[start:stop]]))
            start = stop
        return np.concatenate(rows)

    def settings(self) -> dict[str, Any]:
        """All that a length depends on."""
        return {"lines": [line.settings() for line in self.lines], "weights": self.weights}
