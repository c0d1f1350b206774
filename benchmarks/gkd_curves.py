"""Curves of finished runs, side by side: the losses of training and validation, and who wrote the answers.

python benchmarks/gkd_curves.py --output docs/images/gkd_curves.png <run> <run>
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

PANELS = ("eval/sft_loss", "eval/kl_loss", "train/kl_loss/coord", "train/kl_loss/text")


def main() -> None:
    """Read each run's logging.jsonl and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(3.4 * len(PANELS), 3), constrained_layout=True)
    for run in arguments.runs:
        lines = [json.loads(line) for line in (run / "logging.jsonl").read_text(encoding="utf-8").splitlines()]
        for axis, name in zip(axes, PANELS, strict=True):
            points = [(line["step"], line[name]) for line in lines if name in line]
            axis.plot(*zip(*points, strict=True), marker=".", linewidth=1, label=run.name)
            axis.set(title=name, xlabel="step")
    axes[0].legend()
    figure.savefig(arguments.output, dpi=110)


if __name__ == "__main__":
    main()
