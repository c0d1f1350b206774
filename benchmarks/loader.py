"""Loader throughput: how many packs a second 0, 1 and 2 workers serve, as ratios to none.

    python benchmarks/loader.py

Photographs of 1024 x 768 as JPEG, ten labels each, two a turn, `augmentation=dense`, rows of 8,192 tokens: decoding,
warping, colours, the processor's patches, the tokens and the collation of each pack, then its way from the worker. The
reader does nothing with a pack, so this is the most that a training loop can be fed. The numbers of workers take turns
in each round; medians are compared. Workers help up to the cores that the machine has to spare: their number is shown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import cv2
import numpy as np
import skimage.data
import torch
from planning import HEIGHT, WIDTH, write

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config.compose import compose
from dvlm.data.datamodule import CaptionDataModule
from dvlm.data.encode import Encoder
from dvlm.models import load
from dvlm.models.tiny import prepare

WORKERS = (0, 1, 2)


def build(folder: Path, turns: int) -> CaptionDataModule:
    """The data module over `turns` turns, whose records share four photographs."""
    write(folder / "a.jsonl", 2 * turns)
    pictures = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    lines = (folder / "a.jsonl").read_text(encoding="utf-8").splitlines()
    for number, picture in enumerate(pictures):
        scaled = cv2.resize(picture[..., ::-1], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{number}.jpg"), scaled)
    named = [line.replace("a.jpg", f"{number % len(pictures)}.jpg") for number, line in enumerate(lines)]
    (folder / "a.jsonl").write_text("\n".join(named), encoding="utf-8")
    config = compose("train", ["augmentation=dense", "data=jsonl", f"data.train_jsonl={folder / 'a.jsonl'}"])
    model = str(prepare(folder))
    config.data.packs_per_step, config.data.verify_images = 1, "header"
    return CaptionDataModule(
        config.data,
        augmentation=Pipeline.build(config.augmentation.as_mappings()),
        encoder=Encoder(load.load_processor(model, None, WIDTH * HEIGHT), load.load_config(model)),
        seed=17,
        epochs=1,
        max_length=8192,
        world_size=1,
    )


def seconds(data: CaptionDataModule, workers: int) -> list[float]:
    """The time from each pack to the next; the first, for which workers start, is left out."""
    data.config.dataloader_num_workers = workers
    times = []
    last = None
    for _ in data.train_dataloader():
        now = time.perf_counter()
        times += [now - last] if last is not None else []
        last = now
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        data = build(Path(folder), arguments.turns)
        rates: dict[int, list[float]] = {workers: [] for workers in WORKERS}
        for _ in range(arguments.rounds):
            for workers in WORKERS:
                times = seconds(data, workers)
                rates[workers].append(len(times) / sum(times))
    packs = data.train_plan.packs
    samples = statistics.mean(len(pack.samples) for pack in packs)
    tokens = np.mean([pack.tokens for pack in packs])
    cores = len(os.sched_getaffinity(0))
    where = f"{cores} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{len(packs)} packs of {samples:.1f} turns and {tokens:.0f} tokens; {where}")
    base = statistics.median(rates[0])
    for workers in WORKERS:
        rate = statistics.median(rates[workers])
        print(f"{workers} workers: {rate:.2f} packs a second, {rate / base:.2f} times that of none")


if __name__ == "__main__":
    main()
