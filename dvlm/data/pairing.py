"""Which records share a turn, and what it asks for: a pure function of (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dvlm.values import Dialogue, Mode, Record, Turn, generator


def turn_count(records: int, per_turn: int) -> int:
    """Turns of one epoch; a short last turn is kept."""
    return -(-records // per_turn)


@lru_cache(maxsize=16)
def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of `count` records in `epoch`; kept, because every turn of an epoch reads it."""
    return generator(seed, "pairing", epoch, 0).permutation(count)


def pair(
    parts: Sequence[Record | Dialogue],
    epoch: int,
    index: int,
    *,
    seed: int,
    per_turn: int,
    summary_ratio: float,
) -> Turn:
    """Turn `index` of `epoch`: the next `per_turn` records of the epoch's order, or one dialogue."""
    order = permutation(seed, epoch, len(parts))
    chosen = tuple(parts[i] for i in order[index * per_turn : (index + 1) * per_turn])
    if isinstance(chosen[0], Dialogue):
        return Turn(epoch, index, None, (), chosen[0])
    asks_summary = generator(seed, "mode", epoch, index).random() < summary_ratio
    return Turn(epoch, index, Mode.SUMMARY if asks_summary else Mode.DENSE, chosen)
