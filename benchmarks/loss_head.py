"""The fused loss of the head against one on full logits: time of forward and backward, and the memory it adds.

    python benchmarks/loss_head.py                        # V=151,936, H=256, 2,000 positions, 2 threads, a frozen head
    python benchmarks/loss_head.py --hidden 1024 --repeats 3

The naive baseline is what one writes first: logits of all positions, `F.cross_entropy`, and TRL's
`generalized_jsd_loss` on log-softmaxes, differentiated by autograd. It gives CE and D only; the fused loss also
entropy, accuracy and agreement.

Times are medians over rounds that run every variant in turn, in one process; run it on an idle machine, since two
threads that wait for each other suffer most from a third, or with --threads 1 --cpu-seconds on a busy one. Memory is
the peak of the resident set (VmHWM) less what was resident before, each variant in a fresh process. A naive variant for
which there is no room runs on half of the positions (or a quarter, ...), and its figures are scaled up: its line says
so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dvlm.learning.divergence import Divergence
from dvlm.learning.losses import CHUNK, head_loss

CHUNKS = (32, 64, 128, 256, 512)
# Loss: the most that the default chunk may take of the naive time, and tensors (S, V) that the naive one holds at most.
GOALS = {"ce": (1.0, 4), "forward_kl": (0.9, 10), "reverse_kl": (0.9, 10), "jsd": (0.8, 20)}
MEMORY_GOAL = 1 / 15


@dataclass(frozen=True)
class Task:
    """One size of the problem: CE + 0.5 D at temperature 1, jsd at mix 0.5, teacher and student of one frozen head."""

    positions: int
    hidden: int
    vocabulary: int
    threads: int

    def inputs(self) -> dict[str, Tensor]:
        """A student near its teacher, with logits as large as a real model's."""
        torch.set_num_threads(self.threads)
        draw = torch.Generator().manual_seed(0)
        student = torch.randn(self.positions, self.hidden, generator=draw)
        return {
            "hidden": student.clone().requires_grad_(),
            "weight": torch.randn(self.vocabulary, self.hidden, generator=draw).mul_(3 / self.hidden**0.5),
            "targets": torch.randint(self.vocabulary, (self.positions,), generator=draw),
            "teacher_hidden": student + 0.1 * torch.randn(self.positions, self.hidden, generator=draw),
        }


def trl_divergence(student: Tensor, teacher: Tensor, mix: float) -> Tensor:
    """The sum over positions of TRL's generalised JSD, from logits (S, V)."""
    log_p, log_q = F.log_softmax(student, -1), F.log_softmax(teacher, -1)
    if mix == 0:
        return F.kl_div(log_p, log_q, reduction="none", log_target=True).sum()
    if mix == 1:
        return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum()
    share = torch.tensor(mix)
    log_m = torch.logsumexp(torch.stack([log_p + torch.log(1 - share), log_q + torch.log(share)]), 0)
    to_teacher = F.kl_div(log_m, log_q, reduction="none", log_target=True)
    to_student = F.kl_div(log_m, log_p, reduction="none", log_target=True)
    return (share * to_teacher + (1 - share) * to_student).sum()


def naive(inputs: dict[str, Tensor], loss: str) -> Tensor:
    """Forward and backward on full logits; returns the gradient of the hidden states."""
    student = F.linear(inputs["hidden"], inputs["weight"])
    total = F.cross_entropy(student, inputs["targets"], reduction="sum")
    if loss != "ce":
        with torch.no_grad():
            teacher = F.linear(inputs["teacher_hidden"], inputs["weight"])
        mix = {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": 0.5}[loss]
        total = total + 0.5 * trl_divergence(student, teacher, mix)
    return torch.autograd.grad(total, inputs["hidden"])[0]


def fused(inputs: dict[str, Tensor], loss: str, chunk: int) -> Tensor:
    """Forward and backward of the fused loss; returns the gradient of the hidden states."""
    teacher = (None, None) if loss == "ce" else (inputs["teacher_hidden"], inputs["weight"])
    mine = head_loss(
        inputs["hidden"],
        inputs["weight"],
        inputs["targets"],
        beta=0.0 if loss == "ce" else 0.5,
        teacher_hidden=teacher[0],
        teacher_weight=teacher[1],
        divergence=Divergence.FORWARD_KL if loss == "ce" else Divergence(loss),
        chunk=chunk,
    )
    return torch.autograd.grad(mine.loss, inputs["hidden"])[0]


def run(inputs: dict[str, Tensor], loss: str, chunk: int | None) -> Tensor:
    """The naive variant where `chunk` is None, else the fused one."""
    return naive(inputs, loss) if chunk is None else fused(inputs, loss, chunk)


def resident(field: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def available() -> int:
    """The memory that is free or can be freed, in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def extra_memory(task: Task, loss: str, chunk: int | None) -> int:
    """Bytes that one pass adds to the resident set at its peak; to be called in a fresh process."""
    run(Task(4, task.hidden, 1000, task.threads).inputs(), loss, chunk)  # loads libraries, starts threads
    inputs = task.inputs()
    before = resident("VmRSS")
    run(inputs, loss, chunk)
    return resident("VmHWM") - before


def in_fresh_process(task: Task, loss: str, chunk: int | None) -> int:
    """`extra_memory` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(extra_memory, (task, loss, chunk))


def medians(
    variants: dict[int | None, Callable[[], Tensor]], repeats: int, clock: Callable[[], float]
) -> dict[int | None, float]:
    """Seconds of each variant: the median over rounds in which each runs once, after one call that is not counted."""
    seconds: dict[int | None, list[float]] = {key: [] for key in variants}
    for turn in range(repeats + 1):
        for key, call in variants.items():
            start = clock()
            call()
            if turn or key is None:  # the naive one has nothing to warm up, and is slow
                seconds[key].append(clock() - start)
    return {key: statistics.median(values) for key, values in seconds.items()}


def compare(task: Task, loss: str, chunks: list[int], repeats: int, clock: Callable[[], float]) -> bool:
    """Print the chunk table of one loss; whether the default chunk reaches the goals."""
    goal, tensors = GOALS[loss]
    scale = 1
    while tensors * 4 * task.positions * task.vocabulary // scale > available():
        scale *= 2
    part = Task(task.positions // scale, task.hidden, task.vocabulary, task.threads)
    whole, few = task.inputs(), part.inputs()
    error = (fused(few, loss, CHUNK) - naive(few, loss)).abs().max() / naive(few, loss).abs().max()
    calls: dict[int | None, Callable[[], Tensor]] = {None: partial(naive, few, loss)}
    calls |= {chunk: partial(fused, whole, loss, chunk) for chunk in chunks}
    seconds = medians(calls, repeats, clock)
    memory = {chunk: in_fresh_process(task, loss, chunk) for chunk in chunks}
    base_seconds, base_memory = seconds[None] * scale, in_fresh_process(part, loss, None) * scale
    note = f" (measured on {part.positions} positions, scaled)" if scale > 1 else ""
    print(
        f"\n{loss}: naive {base_seconds:.2f} s, {base_memory / 2**20:,.0f} MiB extra{note}; gradients {error:.0e} apart"
    )
    print("  chunk   time s   of naive   extra MiB   of naive")
    for chunk in chunks:
        ratio, share = seconds[chunk] / base_seconds, memory[chunk] / base_memory
        mark = " <- default" if chunk == CHUNK else ""
        print(
            f"{chunk:7d} {seconds[chunk]:8.2f} {ratio:9.2f}x {memory[chunk] / 2**20:11,.0f}     1/{1 / share:.0f}{mark}"
        )
    reached = seconds[CHUNK] <= goal * base_seconds and memory[CHUNK] <= MEMORY_GOAL * base_memory
    print(f"  goal at the default: time <= {goal}x, memory <= 1/15: {'reached' if reached else 'MISSED'}")
    return reached


def main() -> None:
    """Measure each loss; exit with 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=2000)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--losses", nargs="+", choices=GOALS, default=["ce", "forward_kl", "jsd"])
    parser.add_argument("--chunks", nargs="+", type=int, default=list(CHUNKS))
    parser.add_argument("--cpu-seconds", action="store_true", help="time of the process instead of the clock's")
    args = parser.parse_args()
    task = Task(args.positions, args.hidden, args.vocabulary, args.threads)
    print(f"S={task.positions} H={task.hidden} V={task.vocabulary} threads={task.threads} fp32, repeats={args.repeats}")
    clock = time.process_time if args.cpu_seconds else time.perf_counter
    chunks = sorted({*args.chunks, CHUNK})
    reached = [compare(task, loss, chunks, args.repeats, clock) for loss in args.losses]
    raise SystemExit(0 if all(reached) else 1)


if __name__ == "__main__":
    main()
