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
from typing import Any

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


def seconds(*arguments: str) -> float:
    """How long a command of this file takes, from its start to its end."""
    started = time.perf_counter()
    command = [sys.executable, __file__, "--child", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return time.perf_counter() - started


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
            swept.append(seconds("-m", f"seed={seeds}", f"hydra.sweep.dir={place}/{number}") / chosen.jobs)
            alone.append(seconds(f"hydra.run.dir={place}/alone-{number}"))
    job, process = statistics.median(swept), statistics.median(alone)
    print(f"{chosen.jobs} jobs that do nothing: {job:.2f} s a job; a process of its own: {process:.2f} s")
    print(f"ratio {process / job:.1f}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    if "--child" in sys.argv:
        from dvlm.config.compose import run_verb

        sys.argv.remove("--child")
        run_verb("train", nothing)
    else:
        main()
