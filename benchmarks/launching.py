"""What a job of a sweep costs beside its work: a sweep of jobs that do nothing, against a process of its own for each.

    python benchmarks/launching.py [--jobs 16] [--rounds 3]

Both sides compose the configuration, take the lock and write the status. Of a process of its own one is timed a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]


def nothing(config: Any) -> float:
    """A job without work."""
    import importlib

    from hydra.core.hydra_config import HydraConfig

    from dvlm.sweeps.attempt import carry_out
    from dvlm.sweeps.place import Place

    importlib.import_module("dvlm.assembly")  # what a run loads first
    directory = Path(HydraConfig.get().runtime.output_dir)
    return carry_out(lambda *_: 0.0, config, directory, Place.here(os.environ))


class Cost(NamedTuple):
    """Seconds on the clock, and of CPU over all processes: on a busy machine only the second means something."""

    clock: float
    cpu: float


def cost(*arguments: str) -> Cost:
    """What a command of this file takes, from its start to its end."""
    started, before = time.perf_counter(), sum(os.times()[2:4])
    command = [sys.executable, __file__, "--child", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return Cost(time.perf_counter() - started, sum(os.times()[2:4]) - before)


def main() -> None:
    """Measure, side by side, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    seeds = ",".join(map(str, range(chosen.jobs)))
    swept, alone = [], []
    with tempfile.TemporaryDirectory() as place:
        for number in range(chosen.rounds):
            swept.append(cost("-m", "hydra/sweeper=grid", f"seed={seeds}", f"hydra.sweep.dir={place}/{number}"))
            alone.append(cost(f"hydra.run.dir={place}/alone-{number}"))
    for name in Cost._fields:
        job = statistics.median(getattr(each, name) for each in swept) / chosen.jobs
        process = statistics.median(getattr(each, name) for each in alone)
        ratio = f"{process / job:.1f}x"
        print(f"{name:6}{job:.2f} s a job of {chosen.jobs}; {process:.2f} s in a process of its own ({ratio})")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    if "--child" in sys.argv:
        from dvlm.config.compose import run_verb

        sys.argv.remove("--child")
        run_verb("train", nothing)
    else:
        main()
