"""Which samples share a pack: several ways are tried, and the one that needs the fewest packs is kept.

All arithmetic is on whole numbers, so that every machine finds the same packs. A million samples take some ten seconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CURVES = (8, 32, 128)  # how little a long sample counts above its length; what is best depends on the lengths
MANY = 100_000  # samples from which on only the first curve is tried
CLOSE = 256  # a pack whose free space is below this part of it is full


def fewest(tokens: NDArray[np.int64], indices: NDArray[np.int64], max_length: int) -> list[list[int]]:
    """The packs of the samples at `indices`, of `tokens[index]` each, in as few as any of the ways needs."""
    curves = CURVES if len(indices) <= MANY else CURVES[:1]
    found = [best_fit(tokens, indices, max_length)]
    found += [_with_samples(fill_up(tokens[indices], max_length, curve), tokens, indices) for curve in curves]
    return min(found, key=len)


def best_fit(tokens: NDArray[np.int64], indices: NDArray[np.int64], max_length: int) -> list[list[int]]:
    """Best-fit decreasing: the longest sample first, each into the fullest pack that still takes it.

    Packs are kept by their free space, and the bits of one integer say which free spaces occur, so that the best fit is
    a shift and a lowest set bit.
    """
    by_space: list[list[list[int]]] = [[] for _ in range(max_length + 1)]
    occurring = 0
    for index in sorted(indices.tolist(), key=lambda i: (-tokens[i], i)):
        need = int(tokens[index])
        above = occurring >> need
        space = need + (above & -above).bit_length() - 1 if above else max_length
        pack = by_space[space].pop() if above else []
        if above and not by_space[space]:
            occurring ^= 1 << space
        pack.append(index)
        by_space[space - need].append(pack)
        occurring |= 1 << (space - need)
    return sorted(sorted(pack) for packs in by_space for pack in packs)


def fill_up(lengths: NDArray[np.int64], max_length: int, curve: int) -> list[list[int]]:
    """One pack after the other, as lengths: the longest that is left, then the two that are worth most together.

    A length is worth a little more than itself, and the more so the longer it is (the less, the greater `curve`): packs
    that took the best fit at any price would use up the short samples, and the last packs would stay half empty.
    """
    stock = _Stock(lengths, max_length)
    worth = np.arange(max_length + 1) * (curve * max_length + np.arange(max_length + 1))
    packs = []
    while longest := stock.longest(max_length):
        pack, space = [stock.take(longest)], max_length - longest
        while longest := stock.longest(space):
            pair = stock.best_pair(space, worth)
            left = space - sum(pair)
            # Three of the shortest would not fit either, or nothing better is worth looking for.
            last = 3 * stock.shortest > space or left <= max_length // CLOSE
            chosen = [length for length in pair if length] if last else [longest]
            pack += [stock.take(length) for length in chosen]
            space -= sum(chosen)
            if last:
                break
        packs.append(pack)
    return packs


class _Stock:
    """The lengths that no pack has taken: `count` of each, and in `fit` the longest up to each (0: there is none)."""

    def __init__(self, lengths: NDArray[np.int64], max_length: int) -> None:
        self.count = np.bincount(lengths, minlength=max_length + 1)
        self.fit = np.maximum.accumulate(np.where(self.count > 0, np.arange(max_length + 1), 0))

    @property
    def shortest(self) -> int:
        return int(np.argmax(self.count > 0))

    def longest(self, space: int) -> int:
        """The longest up to `space`, or 0."""
        return int(self.fit[space])

    def take(self, length: int) -> int:
        """Take one of `length` out, and return it."""
        self.count[length] -= 1
        if not self.count[length]:
            until = np.searchsorted(self.fit, length, "right")
            self.fit[length:until] = self.fit[length - 1]
        return length

    def best_pair(self, space: int, worth: NDArray[np.int64]) -> tuple[int, int]:
        """The two lengths that fit into `space` together and are worth most; the second may be 0."""
        first = np.flatnonzero(self.count[: self.fit[space] + 1])
        second = self.fit[space - first]
        # A length that is there only once cannot be both.
        second = np.where((second == first) & (self.count[first] < 2), self.fit[first - 1], second)
        best = int(np.argmax(worth[first] + worth[second]))
        return int(first[best]), int(second[best])


def _with_samples(packs: list[list[int]], tokens: NDArray[np.int64], indices: NDArray[np.int64]) -> list[list[int]]:
    """The packs as samples in place of lengths."""
    waiting: dict[int, list[int]] = {}
    for index in indices.tolist():
        waiting.setdefault(int(tokens[index]), []).append(index)
    return sorted(sorted(waiting[length].pop() for length in pack) for pack in packs)
