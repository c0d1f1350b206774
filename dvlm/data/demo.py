"""A generated inspection set, so that everything can be tried without photographs: records, pictures, two domains."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dvlm import durable
from dvlm.data.demo_paint import paint
from dvlm.data.demo_scene import DOMAINS, Item, Scene, layout
from dvlm.geometry.shapes import Kind

CONTENT_VERSION = 2  # raise it when the generator draws other pictures or writes other records
SPLITS = ("train", "val")


def prepare(root: Path, *, train: int = 200, val: int = 40, seed: int = 17, domain: str = "a") -> tuple[Path, Path]:
    """The paths of train.jsonl and val.jsonl of a generated set of `train` and `val` records under `root`.

    The set lies in `root/demo-<hash of the arguments>/` with its pictures in `images/`. It is written on the first call
    and used again by every later one. The directory appears by rename, so that it is whole or not there, also when two
    processes prepare it at once. Raises ValueError for a domain that does not exist or a count below 1.
    """
    if domain not in DOMAINS:
        raise ValueError(f"domain must be one of {sorted(DOMAINS)}, got {domain!r}")
    if train < 1 or val < 1:
        raise ValueError(f"train and val must be at least 1, got train={train}, val={val}")
    content = json.dumps([CONTENT_VERSION, train, val, seed, domain])
    target = root / f"demo-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if not target.is_dir():
        durable.clean(root)
        with durable.appearing(target, synced=False, shared=True) as written:
            for split, count in zip(SPLITS, (train, val), strict=True):
                _write_split(written, split, count, seed, domain)
    return target / "train.jsonl", target / "val.jsonl"


def scene(*, split: str, index: int, seed: int = 17, domain: str = "a") -> Scene:
    """The scene of one record: a pure function of its arguments. `split` is `train` or `val`."""
    # The domain takes part too: else a set of b would show the layouts that a set of a is judged on.
    numbers = [seed, sorted(DOMAINS).index(domain), SPLITS.index(split), index]
    return layout(np.random.default_rng(numbers), domain=domain)


def record(picture: Scene, image: str) -> dict[str, Any]:
    """The record of a scene whose picture is at `image`, in the key order of a JSONL line."""
    return {
        "images": [image],
        "width": picture.width,
        "height": picture.height,
        "summary": picture.summary,
        "objects": [_object(item, item.desc(picture.domain)) for item in picture.items],
    }


def _object(item: Item, desc: str) -> dict[str, Any]:
    flat = [value for point in item.points for value in point]
    count = {"line_points": len(item.points)} if item.role.kind is Kind.LINE else {}
    return {item.role.kind.key: flat, **count, "desc": desc}


def _write_split(directory: Path, split: str, count: int, seed: int, domain: str) -> None:
    """`<split>.jsonl` and its pictures, in `directory`."""
    (directory / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(count):
        picture = scene(split=split, index=index, seed=seed, domain=domain)
        name = f"images/{split}_{index:05d}.png"
        pixels = cv2.cvtColor(paint(picture), cv2.COLOR_RGB2BGR)
        (directory / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        lines.append(json.dumps(record(picture, name), ensure_ascii=False) + "\n")
    (directory / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
