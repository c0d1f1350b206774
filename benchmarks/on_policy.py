"""Steps whose answers are written first, against steps on the data: time, tokens a second, and where the time goes.

    python benchmarks/on_policy.py

Each round trains a few steps of SFT, of lmbda 0.5 (the student writes every other step or so) and of seq_kd (the
teacher writes all of them) on the demo and the tiny model, one after the other. Prints medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

RUNS = {
    "sft": ("rlhf=none",),
    "lmbda 0.5": ("rlhf=gkd_forward", "rlhf.lmbda=0.5"),
    "seq_kd": ("rlhf=gkd_forward", "rlhf.seq_kd=true"),
}


def measured(directory: Path, options: tuple[str, ...]) -> dict[str, float]:
    """Seconds a step, tokens a second, and the share of the time that went into writing; the first step left out."""
    from dvlm.config.compose import compose
    from dvlm.train import train

    train(compose("train", [*options, "logger=none", "callbacks=quiet", "trainer.eval_at_start=false"]), directory)
    lines = [json.loads(line) for line in (directory / "logging.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line.get("step", 0) > 1 and "perf/step_seconds" in line]
    seconds = sum(step["perf/step_seconds"] for step in steps)
    writing = sum(step.get("perf/writing_seconds", 0.0) for step in steps)
    tokens = sum(step["perf/tokens_per_second"] * step["perf/step_seconds"] for step in steps)
    return {"step": seconds / len(steps), "tokens": tokens / seconds, "writing": writing / seconds}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--completion", type=int, default=64, help="longest answer, in tokens")
    arguments = parser.parse_args()
    written = f"rlhf.max_completion_length={arguments.completion}"
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for name, options in RUNS.items():
                extra = (f"trainer.max_steps={arguments.steps}", *([written] if name != "sft" else []))
                found[name].append(measured(Path(folder) / f"{number}-{name}", (*options, *extra)))
    middle = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()
    }
    print(f"load {os.getloadavg()[0]:.1f}; {arguments.steps} steps, answers of at most {arguments.completion} tokens")
    for name, row in middle.items():
        times, share = row["step"] / middle["sft"]["step"], row["writing"]
        print(f"{name:10} {times:5.2f}x the time of a step of sft, {row['tokens']:6.0f} tokens/s, writing {share:.0%}")


if __name__ == "__main__":
    main()
