"""Planning throughput: how many turns a second one core measures, with no pixel touched.

    python benchmarks/planning.py

A turn shows two images with ten objects each: half boxes, the rest quads and lines. Measuring one means to read two
records from the JSONL file, pair them, draw the `dense` augmentation, clip and normalise the labels, write the answer,
render the chat template and count tokens. The tokenizer is that of the tiny model: Qwen's in kind, with fewer words,
so that it makes more tokens of the same text. Times are CPU times of this one process, whose tokenizer uses one thread.
Goal: at least 500. Then the packs of the epoch are built. `--profile` prints where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config.compose import compose
from dvlm.data import plan as planning
from dvlm.data.encode import Encoder
from dvlm.data.index import RecordFile
from dvlm.data.line import Line
from dvlm.data.messages import Prompts
from dvlm.models import load
from dvlm.models.tiny import prepare

WIDTH, HEIGHT, OBJECTS = 1024, 768, 10
DESCS = ("BBU设备/品牌:华为/型号:5900/显示完整", "光模块/颜色:蓝/显示完整", "标签/文字:A12", "线缆/颜色:黄/只显示部分")


def record(rng: np.random.Generator) -> dict:
    """An image of ten objects: five boxes, three quads, two lines of four points."""
    objects = []
    for kind in ("bbox_2d",) * 5 + ("quad",) * 3 + ("line",) * 2:
        x, y, w, h = rng.integers([0, 0, 20, 20], [WIDTH - 200, HEIGHT - 200, 200, 200]).tolist()
        flat = {
            "bbox_2d": [x, y, x + w, y + h],
            "quad": [x + w // 4, y, x + w, y + h // 4, x + w - w // 4, y + h, x, y + h - h // 4],
            "line": [x, y, x + w, y + h // 3, x + w // 2, y + h // 2, x + w // 3, y + h],
        }[kind]
        objects.append({kind: flat, "desc": DESCS[rng.integers(len(DESCS))]})
    return {"images": ["a.jpg"], "width": WIDTH, "height": HEIGHT, "objects": objects}


def write(file: Path, count: int) -> None:
    """A JSONL file of `count` records."""
    rng = np.random.default_rng(0)
    file.write_text("".join(json.dumps(record(rng), ensure_ascii=False) + "\n" for _ in range(count)), encoding="utf-8")


def build_line(folder: Path, turns: int) -> Line:
    """The line of the records with the `dense` augmentation."""
    write(folder / "a.jsonl", 2 * turns)
    config = compose("train", ["augmentation=dense", "data=jsonl", f"data.train_jsonl={folder / 'a.jsonl'}"])
    model = str(prepare(folder))
    return Line(
        parts=RecordFile(folder / "a.jsonl"),
        augmentation=Pipeline.build(config.augmentation.as_mappings()),
        prompts=Prompts.of(config.data),
        encoder=Encoder(load.load_processor(model), load.load_config(model)),
        seed=17,
        images_per_user_turn=2,
        summary_ratio=0.0,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        line = build_line(Path(folder), arguments.turns)
        lengths = line.lengths(0, range(256))  # warms up
        rates = []
        for epoch in range(arguments.rounds):
            start = time.process_time()
            lengths = line.lengths(epoch, range(line.turns))
            rates.append(line.turns / (time.process_time() - start))
        print(f"{line.turns} turns of {2 * OBJECTS} objects, {lengths[:, 0].mean():.0f} tokens on average")
        print(f"turns a second and core: {statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f}; goal 500)")
        start = time.process_time()
        plan = planning.build(
            [lengths] * 10,
            seed=17,
            max_length=2 * int(lengths[:, 0].max()),
            packing=True,
            samples_per_pack=1,
            packs_per_step=8,
            truncation="raise",
            place=str,
        )
        rate = 10 * line.turns / (time.process_time() - start)
        print(f"packing them, 10 epochs: {rate:.0f} turns a second, {len(plan.packs)} packs")
        if arguments.profile:
            with cProfile.Profile() as profile:
                line.lengths(0, range(line.turns))
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
