"""Packed against padded training: time per supervised token on one distribution of lengths, measured side by side.

    python benchmarks/packing.py

Both ways train the same samples (LoRA, forward, fused loss, backward) on the tiny Qwen3-VL; padded batches take the
samples in random order, 4 or 8 rows each. Prints medians over interleaved rounds, and the packing efficiency over 5,000
turns.
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
from dvlm.data.packing import fewest
from dvlm.learning.module import SFTModule
from dvlm.models import load, tuning
from dvlm.models.tiny import prepare
from dvlm.values import Batch, Sample, Turn

MAX_LENGTH = 4096
PROMPT = 60
PACKED = 0  # rows of a layout that is not padded
LAYOUTS = (PACKED, 4, 8)


def turns(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image tokens of the two photographs (count, 2) and answer tokens (count,) of turns.

    A photograph takes 300, 475 or 768 tokens. Seven turns of ten ask for objects, whose number is lognormal (median 8,
    sigma 0.8), 35 tokens each; the others for summaries of 30 tokens an image.
    """
    rng = np.random.default_rng(seed)
    images = rng.choice([300, 475, 768], (count, 2), p=[0.4, 0.3, 0.3])
    objects = np.maximum(1, rng.lognormal(np.log(8), 0.8, (count, 2))).round().sum(1)
    return images, np.where(rng.random(count) < 0.7, objects * 35, 60).astype(int)


def lengths(count: int, seed: int) -> np.ndarray:
    """(count, 2) tokens and supervised tokens of such turns, cut to `MAX_LENGTH`."""
    images, answers = turns(count, seed)
    total = np.minimum(PROMPT + images.sum(1) + answers, MAX_LENGTH)
    return np.stack([total, np.minimum(answers, total - PROMPT)], 1)


def sample(index: int, tokens: int, supervised: int, vocabulary: int) -> Sample:
    """Random text of the given length: the vision tower costs the same either way and is left out."""
    ids = torch.randint(0, vocabulary, (tokens,), generator=torch.Generator().manual_seed(index))
    labels = torch.where(torch.arange(tokens) >= tokens - supervised, ids, -100)
    rope = torch.arange(tokens).expand(3, -1)
    return Sample(Turn(0, index, None, ()), ids, labels, torch.zeros_like(ids), rope, None, None, (), "")


def batches(rows: np.ndarray, vocabulary: int, layout: int) -> list[Batch]:
    """The micro-batches of one pass over the samples."""
    samples = [sample(i, *map(int, row), vocabulary) for i, row in enumerate(rows)]
    if layout == PACKED:
        groups = fewest(rows[:, 0], np.arange(len(rows)), MAX_LENGTH)
    else:
        groups = [list(range(start, min(start + layout, len(rows)))) for start in range(0, len(rows), layout)]
    total = int(rows[:, 1].sum())
    return [
        collate([samples[i] for i in group], packing=layout == PACKED, pad_id=0, supervised_in_step=total, pack=k)
        for k, group in enumerate(groups)
    ]


def module(directory: str, layout: int) -> SFTModule:
    """The same LoRA student on the attention that each layout uses."""
    config = ModelConfig(model=directory, torch_dtype="float32", max_model_len=MAX_LENGTH)
    tuned = tuning.tune(load.load_model(config, packing=layout == PACKED), TunerConfig(), seed=0)
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
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = lengths(arguments.samples, 0)
    with tempfile.TemporaryDirectory() as folder:
        directory = str(prepare(Path(folder)))
        vocabulary = load.load_config(directory).text_config.vocab_size
        work = {layout: batches(rows, vocabulary, layout) for layout in LAYOUTS}
        modules = {layout: module(directory, layout) for layout in LAYOUTS}
        times: dict[int, list[float]] = {layout: [] for layout in LAYOUTS}
        for _ in range(arguments.rounds):
            for layout in LAYOUTS:
                times[layout].append(seconds(modules[layout], work[layout]))
    tokens, supervised = rows.sum(0)
    print(f"{len(rows)} samples, {tokens} tokens, {supervised} supervised")
    for layout in LAYOUTS[1:]:
        slots = sum(batch.input_ids.numel() for batch in work[layout])
        ratio = statistics.median(times[layout]) / statistics.median(times[PACKED])
        print(f"{layout} padded rows / packed, time: {ratio:.2f}x (goal 1.30x); padding {1 - tokens / slots:.1%}")
    many = lengths(5000, 1)
    packs = fewest(many[:, 0], np.arange(len(many)), MAX_LENGTH)
    print(f"packing efficiency over 5,000 turns: {many[:, 0].sum() / (len(packs) * MAX_LENGTH):.4f} (goal 0.98)")


if __name__ == "__main__":
    main()
