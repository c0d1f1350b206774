"""The picture of what was said against what is true."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dvlm.reporting import canvas


def confusion(counts: Mapping[str, Mapping[str, int]]) -> bytes:
    """A PNG of `counts[true][said]`: rows are true, columns are what was said; shares of each row as shade."""
    names = list(counts)
    cells = np.array([[counts[true][said] for said in names] for true in names], float)
    shares = cells / np.maximum(cells.sum(1, keepdims=True), 1)
    with canvas.style():
        figure, ((axes,),) = canvas.sheet(1, 1, 3.6, 3.2)
        axes.imshow(shares, cmap=canvas.MAP, vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="verdict", ylabel="label", title="Groups by label and verdict")
        axes.grid(visible=False)
        for (row, column), count in np.ndenumerate(cells):
            text = f"{count:.0f}\n{shares[row, column]:.0%}"
            axes.text(
                column, row, text, ha="center", va="center", color="white" if shares[row, column] < 0.55 else canvas.INK
            )
        return canvas.png(figure)
