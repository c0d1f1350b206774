"""Packed against padded training: time per supervised token on one distribution of lengths, measured side by side.

    python benchmarks/packing.py

Both ways train the same samples (LoRA, forward, fused loss, backward) on the same small Qwen3-VL; padded batches take
the samples in random order, four rows each, about as many slots as a pack has. Prints medians over interleaved rounds,
and the packing efficiency over 5,000 turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from dvlm.config import ModelConfig, OptimConfig, RlhfConfig, TunerConfig
from dvlm.data.collate import collate
from dvlm.data.plan import best_fit
from dvlm.learning.module import SFTModule
from dvlm.models import load, tuning
from dvlm.models.tiny import TinySpec, prepare
from dvlm.values import Batch, Sample, Turn

MAX_LENGTH, ROWS = 4096, 4
SPEC = TinySpec(hidden=256, intermediate=768, heads=8, kv_heads=4)


def lengths(count: int, seed: int) -> np.ndarray:
    """(count, 2) tokens and supervised tokens of turns of two images: 64 to 640 image tokens each, a heavy tail of
    objects (lognormal, median 8, sigma 0.8) of 30 tokens each, and 60 tokens of prompt."""
    rng = np.random.default_rng(seed)
    images = rng.integers(64, 641, (count, 2)).sum(1)
    objects = np.maximum(1, rng.lognormal(np.log(8), 0.8, (count, 2))).round().sum(1)
    answers = (objects * 30).astype(int)
    total = np.minimum(60 + images + answers, MAX_LENGTH)
    return np.stack([total, np.minimum(answers, total - 60)], 1)


def sample(index: int, tokens: int, supervised: int, vocabulary: int) -> Sample:
    """Random text of the given length: the vision tower costs the same either way and is left out."""
    ids = torch.randint(0, vocabulary, (tokens,), generator=torch.Generator().manual_seed(index))
    labels = torch.where(torch.arange(tokens) >= tokens - supervised, ids, -100)
    rope = torch.arange(tokens).expand(3, -1)
    return Sample(Turn(0, index, None, ()), ids, labels, torch.zeros_like(ids), rope, None, None, (), "")


def batches(rows: np.ndarray, vocabulary: int, *, packing: bool) -> list[Batch]:
    """The micro-batches of one pass over the samples."""
    samples = [sample(i, *map(int, row), vocabulary) for i, row in enumerate(rows)]
    if packing:
        groups = best_fit(rows[:, 0], np.arange(len(rows)), MAX_LENGTH)
    else:
        groups = [list(range(start, min(start + ROWS, len(rows)))) for start in range(0, len(rows), ROWS)]
    total = int(rows[:, 1].sum())
    return [
        collate([samples[i] for i in group], packing=packing, pad_id=0, supervised_in_step=total, pack=k)
        for k, group in enumerate(groups)
    ]


def module(directory: str, *, packing: bool) -> SFTModule:
    """The same LoRA student on the attention that each layout uses."""
    torch.manual_seed(0)
    model = load.load_model(
        ModelConfig(model=directory, torch_dtype="float32", max_model_len=MAX_LENGTH), packing=packing
    )
    tuned = tuning.tune(model, TunerConfig(), seed=0)
    return SFTModule(tuned, optim_config=OptimConfig(), rlhf=RlhfConfig(), steps=1, accumulation=1, seed=0)


def seconds(trained: SFTModule, work: list[Batch]) -> float:
    """Wall time of forward, loss and backward over all micro-batches."""
    start = time.perf_counter()
    for batch in work:
        (trained.score(batch, None).loss / batch.supervised_in_step).backward()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = lengths(arguments.samples, 0)
    with tempfile.TemporaryDirectory() as folder:
        directory = str(prepare(Path(folder), spec=SPEC))
        vocabulary = load.load_config(directory).text_config.vocab_size
        work = {packing: batches(rows, vocabulary, packing=packing) for packing in (True, False)}
        modules = {packing: module(directory, packing=packing) for packing in (True, False)}
        times: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(arguments.rounds):
            for packing in (True, False):
                times[packing].append(seconds(modules[packing], work[packing]))
    packed, padded = (statistics.median(times[packing]) for packing in (True, False))
    slots = sum(batch.input_ids.numel() for batch in work[False])
    tokens, supervised = rows.sum(0)
    print(f"{len(rows)} samples, {tokens} tokens, {supervised} supervised; padding {1 - tokens / slots:.1%}")
    print(f"padded / packed time per supervised token: {padded / packed:.2f}x (goal 1.30x)")
    many = lengths(5000, 1)
    packs = best_fit(many[:, 0], np.arange(len(many)), MAX_LENGTH)
    print(f"packing efficiency over 5,000 turns: {many[:, 0].sum() / (len(packs) * MAX_LENGTH):.4f} (goal 0.98)")


if __name__ == "__main__":
    main()
