"""What the tests of the data line share: records and pictures on disk, an encoder, a line."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import DataConfig
from dvlm.data.encode import Encoder
from dvlm.data.line import Line
from dvlm.data.messages import Prompts
from dvlm.models.load import load_config, load_processor

WIDTH, HEIGHT = 64, 48


def config(**changes: Any) -> DataConfig:
    """The `data` group with some knobs changed."""
    return DataConfig(**({"train_jsonl": "unused.jsonl"} | changes))


def picture(path: Path, width: int = WIDTH, height: int = HEIGHT, **options: Any) -> Path:
    """A picture of noise, the same for the same size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def row(image: str = "a.png", **changes: Any) -> dict[str, Any]:
    """A good record of a picture; a change to None takes the field away."""
    good: dict[str, Any] = {
        "images": [image],
        "width": WIDTH,
        "height": HEIGHT,
        "summary": "光模块×1",
        "objects": [{"bbox_2d": [4, 5, 30, 40], "desc": "光模块/显示完整"}],
    }
    return {key: value for key, value in (good | changes).items() if value is not None}


def write(file: Path, *rows: Any) -> Path:
    """A JSONL file of `rows`: mappings, or lines as text or bytes. `a.png` is put beside it."""
    lines = [line if isinstance(line, str | bytes) else json.dumps(line, ensure_ascii=False) for line in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    if not (file.parent / "a.png").exists():
        picture(file.parent / "a.png")
    return file


@cache
def encoder(model: Path, min_pixels: int | None = None, max_pixels: int | None = None) -> Encoder:
    """The encoder of a model directory."""
    return Encoder(load_processor(str(model), min_pixels, max_pixels), load_config(str(model)))


def line(parts: Any, model: Path, *, ops: Any = (), encoding: Encoder | None = None, **changes: Any) -> Line:
    """The straight line over `parts` with some knobs of the `data` group changed."""
    data = config(**changes)
    return Line(
        parts=parts,
        augmentation=Pipeline.build(list(ops)),
        prompts=Prompts.of(data),
        encoder=encoding or encoder(model),
        seed=17,
        images_per_user_turn=data.images_per_user_turn,
        summary_ratio=data.summary_ratio,
    )
