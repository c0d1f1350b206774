"""A head's products with tiles of the vocabulary, and a softmax whose rows arrive tile by tile.

Shape letters: H hidden size, V vocabulary, c positions of a chunk, v words of a tile, t tiles.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Head:
    """A head's weight (V, H), cut into tiles of words, and a buffer (c, V) for one chunk of at most `rows` positions.

    Products have `dtype`, which may be wider than the operands: a GPU multiplies 16-bit numbers into 32-bit results; a
    CPU cannot, and gets a widened copy of one tile of the weight at a time.
    """

    def __init__(self, weight: Tensor, *, hidden: torch.dtype, dtype: torch.dtype, rows: int, words: int) -> None:
        self.weight = weight
        self.operand = torch.promote_types(weight.dtype, hidden) if weight.is_cuda else dtype
        words = min(words, len(weight))
        self.starts = list(range(0, len(weight), words))
        self._largest = rows * words
        self._buffer = weight.new_empty(rows * len(weight), dtype=dtype)
        wide = weight.dtype == self.operand
        self._copy = None if wide else weight.new_empty((words, weight.shape[1]), dtype=self.operand)

    def __len__(self) -> int:
        return len(self.starts)

    def words(self, k: int) -> slice:
        """Which words tile k holds."""
        return slice(self.starts[k], self.starts[k + 1] if k + 1 < len(self) else len(self.weight))

    def tile(self, k: int, count: int) -> Tensor:
        """The place of tile k in the buffer for a chunk of `count` positions: (count, v), contiguous."""
        words = self.words(k)
        return self._buffer[count * words.start : count * words.stop].view(count, words.stop - words.start)

    def spare(self, count: int) -> Tensor:
        """Room (count, c * v) for so many tiles more, which every chunk uses again."""
        return self._buffer.new_empty((count, self._largest))

    def rows(self, k: int) -> Tensor:
        """The weight of tile k, (v, H), in the dtype of the operands. Holds until the next call."""
        rows = self.weight[self.words(k)]
        return rows if self._copy is None else self._copy[: len(rows)].copy_(rows)


def multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out = a @ b, where `out` may be wider than the operands (on a GPU)."""
    if a.dtype == out.dtype:
        torch.mm(a, b, out=out)
    else:
        torch.mm(a, b, out_dtype=out.dtype, out=out)


def accumulate(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out += a @ b, where `out` may be wider than the operands (on a GPU)."""
    if a.dtype == out.dtype:
        out.addmm_(a, b)
    else:
        torch.addmm(out, a, b, out_dtype=out.dtype, out=out)


class Softmax:
    """The softmax of c rows whose logits arrive in t tiles.

    A tile is normalised by itself when it arrives, so that its logits need not be kept; `finish` tells which `share`
    (t, c) of the row's mass it has. `log_mass` (c,) and `tile_mass` (t, c) are log-sum-exps.
    """

    log_mass: Tensor
    tile_mass: Tensor
    share: Tensor

    def __init__(self, tiles: int, count: int, like: Tensor) -> None:
        self._top = like.new_empty((tiles, count))
        self._peak = like.new_empty((tiles, count))

    def add(self, k: int, logits: Tensor, out: Tensor) -> None:
        """Take the logits (c, v) of tile k; `out` becomes their softmax."""
        torch.amax(logits, 1, out=self._top[k])
        torch.softmax(logits, 1, out=out)
        # The likeliest word has the probability 1 / sum(exp(logits - maximum)).
        torch.amax(out, 1, out=self._peak[k])

    def finish(self) -> None:
        """All tiles are there: merge their masses."""
        self.tile_mass = self._top - self._peak.log()
        self.log_mass = torch.logsumexp(self.tile_mass, 0)
        self.share = (self.tile_mass - self.log_mass).exp()

    def new_moments(self) -> Tensor:
        """Room for one number a tile and row, (t, c)."""
        return torch.zeros_like(self._top)

    def mean(self, moments: Tensor) -> Tensor:
        """The row's mean (c,) of what has the means `moments` (t, c) within the tiles."""
        return (moments * self.share).sum(0)

    def likeliest(self, scores: Callable[[int, Tensor], Tensor], starts: list[int]) -> Tensor:
        """The likeliest word of each row, (c,), looked for only in the tile that holds it.

        `scores(k, rows)` rise with the logits of tile k in the rows with these indices; its first word is `starts[k]`.
        """
        winner = self._top.argmax(0)
        best = torch.empty_like(winner)
        for k in winner.unique().tolist():
            rows = (winner == k).nonzero()[:, 0]
            best[rows] = scores(k, rows).argmax(1) + starts[k]
        return best
