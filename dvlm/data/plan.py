"""The epoch plan: which samples share a pack, and which packs an optimizer step, known before a pixel is decoded.

All epochs lie end to end. The last step is filled with packs that repeat the shortest sample with no label: they cost
little, contribute nothing, and keep every rank in step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvlm.data.packing import fewest
from dvlm.values import InputError, generator

Lengths = NDArray[np.int64]  # (turns of an epoch, 2): tokens, supervised tokens


@dataclass(frozen=True)
class Pack:
    """Samples of one micro-batch as (epoch, index) pairs; `filler` packs carry no label.

    `cost` is the sum of the squares of the samples' tokens: what attention computes.
    """

    samples: tuple[tuple[int, int], ...]
    tokens: int
    supervised: int
    cost: int = 0
    filler: bool = False


@dataclass(frozen=True)
class Plan:
    """All packs in the order in which they are served, `packs_per_step` an optimizer step.

    With `packing` a pack is one row of tokens, else each of its samples is a row of its own.
    """

    packs: tuple[Pack, ...]
    packs_per_step: int
    dropped: tuple[tuple[int, int], ...] = ()
    packing: bool = True

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return len(self.packs) // self.packs_per_step

    def supervised_in_step(self, pack: int) -> int:
        """Supervised tokens of the whole optimizer step that `pack` belongs to."""
        first = pack // self.packs_per_step * self.packs_per_step
        return sum(p.supervised for p in self.packs[first : first + self.packs_per_step])

    def statistics(self, max_length: int) -> dict[str, float]:
        """What a person wants to know of a plan; `efficiency` is the share of `max_length` that rows fill."""
        real = [pack for pack in self.packs if not pack.filler]
        tokens = sum(pack.tokens for pack in real)
        samples = sum(len(pack.samples) for pack in real)
        rows = len(real) if self.packing else samples
        return {
            "steps": self.steps,
            "packs": len(real),
            "samples": samples,
            "tokens": tokens,
            "supervised_tokens": sum(pack.supervised for pack in real),
            "longest_pack": max((pack.tokens for pack in real), default=0),
            "efficiency": tokens / (rows * max_length) if rows else 0.0,
            "dropped": len(self.dropped),
        }


def build(
    lengths: Sequence[Lengths],
    *,
    seed: int,
    max_length: int,
    packing: bool,
    samples_per_pack: int,
    packs_per_step: int,
    truncation: str,
    place: Callable[[int, int], str],
    shuffle: bool = True,
) -> Plan:
    """The plan of as many epochs as `lengths` has; `place(epoch, index)` names a turn.

    The packs of a step run from the costliest to the cheapest in attention, so that ranks that run them side by side
    wait little for each other. Raises InputError for a turn above `max_length` unless `truncation` is `drop`.
    """
    packs: list[Pack] = []
    dropped: list[tuple[int, int]] = []
    for epoch, rows in enumerate(lengths):
        fits = rows[:, 0] <= max_length
        if not fits.all() and truncation == "raise":
            raise _too_long(rows, int(np.argmin(fits)), epoch, max_length, place)
        dropped += [(epoch, int(index)) for index in np.flatnonzero(~fits)]
        groups = list(_groups(rows, np.flatnonzero(fits), max_length, samples_per_pack, packing))
        order = generator(seed, "packs", epoch, 0).permutation(len(groups)) if shuffle else range(len(groups))
        packs += [_pack(epoch, groups[i], rows) for i in order]
    if not packs:
        raise InputError(f"every one of {len(dropped)} samples is longer than global_max_length {max_length}; raise it")
    packs += _fillers(packs, packs_per_step)
    steps = (packs[at : at + packs_per_step] for at in range(0, len(packs), packs_per_step))
    ordered = (pack for step in steps for pack in sorted(step, key=lambda pack: -pack.cost))
    return Plan(tuple(ordered), packs_per_step, tuple(dropped), packing)


def _groups(
    rows: Lengths, indices: NDArray[np.int64], max_length: int, samples_per_pack: int, packing: bool
) -> Iterator[list[int]]:
    if packing:
        yield from fewest(rows[:, 0], indices, max_length)
        return
    for start in range(0, len(indices), samples_per_pack):
        yield [int(i) for i in indices[start : start + samples_per_pack]]


def _pack(epoch: int, indices: list[int], rows: Lengths) -> Pack:
    tokens, supervised = rows[indices].sum(0)
    cost = int((rows[indices, 0] ** 2).sum())
    return Pack(tuple((epoch, index) for index in indices), int(tokens), int(supervised), cost)


def _fillers(packs: list[Pack], packs_per_step: int) -> list[Pack]:
    shortest = min(packs, key=lambda pack: pack.tokens)
    filler = Pack(shortest.samples[:1], 0, 0, filler=True)
    return [filler] * (-len(packs) % packs_per_step)


def _too_long(rows: Lengths, index: int, epoch: int, max_length: int, place: Callable[[int, int], str]) -> InputError:
    return InputError(
        f"{place(epoch, index)}: a turn of {rows[index, 0]} tokens is longer than global_max_length {max_length}; "
        "raise global_max_length, lower data.max_pixels or data.images_per_user_turn, or set data.truncation=drop"
    )
