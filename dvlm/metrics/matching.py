"""Which told object stands for which true one: as many pairs as there can be, among those the closest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]


def match(similarity: Floats, threshold: float) -> list[tuple[int, int]]:
    """Pairs (row, column) of `similarity` (p, t), each row and column once, at least `threshold` alike.

    As many pairs as there can be (Kuhn 1955, the Hungarian method); among those the greatest sum of similarity, so that
    the order of objects changes nothing.
    """
    if not similarity.size:
        return []
    alike = similarity >= threshold
    # The sum of all similarities in use stays below one pair.
    weight = alike * (1 + similarity / (min(similarity.shape) + 1))
    rows, columns = linear_sum_assignment(weight, maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if alike[row, column]]
