"""Time and peak memory of an optimizer step under each tuner, as ratios to LoRA of the same rank.

    python benchmarks/tuners.py [--steps 5] [--repeats 3]

One pack of the tiny model, one thread. Tuners are interleaved, so that what else the machine does falls on all of them
alike; the table has medians. Memory is the peak of live tensors beyond the loaded model, counted by the profiler.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from dvlm import assembly
from dvlm.config import OptimConfig, RlhfConfig
from dvlm.config.compose import compose
from dvlm.learning.module import SFTModule
from dvlm.models import load, ranks, tuning
from dvlm.models.kinds import is_adapter
from dvlm.values import Batch

TUNERS = ("lora", "rslora", "dora", "adalora", "boft", "fourierft", "vera", "pissa", "mixed", "full")
RANK = 8


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    config = assembly.prepare(compose("train", ["data.demo.train=24", "data.demo.val=6"]))
    base = load.load_model(config.model, packing=True)
    batch = assembly.build_data(config).first_batch()
    loops = {name: Loop(copy.deepcopy(base), name) for name in TUNERS}
    for loop in loops.values():
        loop.step(batch)
    memory = {name: loop.peak(batch) for name, loop in loops.items()}
    times: dict[str, list[float]] = {name: [] for name in TUNERS}
    for _ in range(arguments.repeats):
        for name, loop in loops.items():
            start = time.process_time()
            for _ in range(arguments.steps):
                loop.step(batch)
            times[name].append(time.process_time() - start)
    report(loops, times, memory)


class Loop:
    """Optimizer steps of one tuner on one pack."""

    def __init__(self, model: Any, name: str) -> None:
        tuner = compose("train", [f"tuner={name}", f"tuner.lora_rank={RANK}", f"tuner.lora_alpha={2 * RANK}"]).tuner
        self.tuned = tuning.tune(model, tuner, seed=1)
        self.module = SFTModule(
            self.tuned, optim_config=OptimConfig(), rlhf=RlhfConfig(), steps=10**6, accumulation=1, seed=1
        )
        self.optimizer: Any = self.module.configure_optimizers()["optimizer"]
        self.allocates, self.done = ranks.are_allocated(self.tuned.model), 0
        if self.allocates:
            ranks.set_schedule(self.tuned.model, 10**6, start_ratio=0.1, final_ratio=0.3)

    def step(self, batch: Batch) -> None:
        """Forward, backward, update, and AdaLoRA's allocation."""
        self.optimizer.zero_grad()
        (self.module.score(batch, None).loss / batch.supervised_in_step).backward()
        if self.allocates:
            ranks.regulariser(self.tuned.model).backward()
        self.optimizer.step()
        self.done += 1
        if self.allocates:
            ranks.allocate(self.tuned.model, self.done)

    def peak(self, batch: Batch) -> int:
        """Largest sum of bytes that a step holds at once, over what it held before."""
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            self.step(batch)
        held, most = 0, 0
        events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
        for event in sorted(events, key=lambda event: event.start_ns()):
            held += event.nbytes()
            most = max(most, held)
        return most

    @property
    def adapters(self) -> int:
        """Numbers that train, modules trained whole left out."""
        named = self.tuned.model.named_parameters()
        return sum(
            p.numel() for name, p in named if p.requires_grad and (is_adapter(name) or not self.tuned.is_adapter)
        )


def report(loops: dict[str, Loop], times: dict[str, list[float]], memory: dict[str, int]) -> None:
    """A markdown table."""
    medians = {name: statistics.median(each) for name, each in times.items()}
    print("| tuner | parameters | CPU time of a step / lora | peak memory of a step / lora |\n|---|---|---|---|")
    for name, loop in loops.items():
        spent, held = medians[name] / medians["lora"], memory[name] / memory["lora"]
        print(f"| {name} | {loop.adapters:,} | {spent:.2f} | {held:.2f} |")
    load_average = Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "unknown"
    print(f"\nrank {RANK}, torch {torch.__version__}, 1 thread, load {load_average}")


if __name__ == "__main__":
    main()
