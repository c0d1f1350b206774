"""The report of a large sweep: 500 runs of 2,000 logged steps each, none of which ever ran.

    python benchmarks/report.py

Makes the run directories (about 350 MB) in a temporary place, or once in `--keep <directory>`, then times the command
`python -m dvlm.report` as a user runs it, imports and all, and prints the size of the page. Goals: 20 s, 10 MB.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from synthetic_sweep import make


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sampled", action="store_true", help="values drawn at random in place of a grid")
    parser.add_argument("--keep", type=Path, help="make the sweep here, once, and leave it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.keep or Path(temporary) / "sweep"
        if not directory.exists():
            make(directory, runs=options.runs, steps=options.steps, sampled=options.sampled)
        print(f"load {os.getloadavg()[0]:.1f}")
        walls, cpus = zip(*(timed(directory) for _ in range(options.repeats)), strict=True)
        page = directory / "report" / "index.html"
        print(f"{options.runs} runs of {options.steps} steps: {statistics.median(walls):.1f} s ({walls}), ", end="")
        print(f"CPU {statistics.median(cpus):.1f} s, page {page.stat().st_size / 1e6:.2f} MB")


def timed(directory: Path) -> tuple[float, float]:
    """Wall clock and CPU seconds of one report."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "dvlm.report", f"sweep={directory}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(time.perf_counter() - started, 2), cpu


if __name__ == "__main__":
    main()
