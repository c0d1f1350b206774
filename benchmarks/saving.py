"""How long training waits for a checkpoint of full tuning, and how long the checkpoint takes to be durable.

    python benchmarks/saving.py [--gib 1] [--output <directory on the disk of the runs>]

Writes tensors of that size (weights and two moments in float32) as a run does, then hashes, syncs and renames. A run
waits for the first part only. Prints medians; the disk has nothing else left to write when a round begins.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from dvlm.checkpoints import TRAINER, CheckpointStore
from dvlm.scale.file import StraightIO


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default=".")
    arguments = parser.parse_args()
    state = {str(part): torch.randn(int(arguments.gib * 2**28 / 3)) for part in range(3)}
    waits, wholes = [], []
    with tempfile.TemporaryDirectory(dir=arguments.output) as folder:
        store = CheckpointStore(Path(folder))
        for step in range(1, arguments.rounds + 1):
            os.sync()
            begin = time.perf_counter()
            with ExitStack() as begun:
                directory = begun.enter_context(store.writing(step))
                StraightIO().save_checkpoint(state, directory / TRAINER)
                rest = begun.pop_all()
            waits.append(time.perf_counter() - begin)
            rest.close()
            wholes.append(time.perf_counter() - begin)
            store.prune(1)
    shares = [wait / whole for wait, whole in zip(waits, wholes, strict=True)]
    print(f"{arguments.gib:g} GiB: a run waits {statistics.median(waits):.2f} s of {statistics.median(wholes):.2f} s, "
          f"a share of {statistics.median(shares):.2f} ({min(shares):.2f}-{max(shares):.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
