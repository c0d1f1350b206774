"""The figures of an estimate as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from dvlm.costs.estimate import Estimate

GIB = 2**30


def tables(found: Estimate) -> Iterator[Table | str]:
    """Parameters, memory, operations, time."""
    yield _parameters(found)
    yield _activations(found)
    yield _per_gpu(found)
    yield _operations(found)
    yield _time(found)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _parameters(found: Estimate) -> Table:
    table = _table(f"Parameters of {found.model}", "tower", "parameters", "trainable")
    for tower, count in found.parameters.items():
        table.add_row(tower, f"{count:,}", f"{found.trainable[tower]:,}")
    table.add_row("all", f"{sum(found.parameters.values()):,}", f"{sum(found.trainable.values()):,}")
    table.caption = (
        f"{found.adapted} adapted layers; {found.on_disk / 2**20:,.0f} MiB of weights in a checkpoint; memory: weights "
        f"{found.weights / GIB:.2f} GiB, gradients {found.gradients / GIB:.2f}, optimizer {found.optimizer / GIB:.2f}"
    )
    return table


def _activations(found: Estimate) -> Table:
    table = _table("Activations of a micro-batch, GiB", "tokens of the row", "kept", "with gradient_checkpointing")
    for tokens, (kept, recomputed) in found.activations.items():
        table.add_row(f"{tokens:,}", f"{kept / GIB:.2f}", f"{recomputed / GIB:.2f}")
    table.caption = f"logits of a whole row, which never exist: {found.logits / GIB:.2f} GiB"
    return table


def _per_gpu(found: Estimate) -> Table:
    first = next(iter(found.per_gpu.values()))
    how = "with" if found.checkpointing else "without"
    title = f"Peak GiB of a GPU, rows of {found.load.pack.tokens:,} tokens, {how} gradient_checkpointing"
    table = _table(title, "strategy", *(f"{k} GPU" + ("s" if k > 1 else "") for k in first))
    for strategy, sizes in found.per_gpu.items():
        table.add_row(strategy, *(f"{size / GIB:.1f}" for size in sizes.values()))
    table.caption = "add 1 to 2 GiB for CUDA itself, kernels and fragments"
    return table


def _operations(found: Estimate) -> Table:
    whole = sum(found.flops.values())
    table = _table("TFLOP of an optimizer step", "part", "TFLOP", "share")
    for part, value in found.flops.items():
        table.add_row(part, f"{value / 1e12:,.1f}", f"{value / whole:.1%}")
    each = found.overhead
    table.caption = (
        f"GKD over SFT: +{each.cold:.0%} cold, +{each.shared:.0%} with sharing, +{each.cached:.0%} with a warm cache"
    )
    return table


def _time(found: Estimate) -> Table:
    load = found.load
    whence = "counted from the data" if load.counted else "assumed: the data were not counted"
    table = _table(f"Time of {load.steps:,} steps ({whence})", "GPUs", "seconds a step", "hours")
    for k, hours in found.hours.items():
        table.add_row(str(k), f"{found.step_seconds[k]:.2f}", f"{hours:.2f}")
    return table
