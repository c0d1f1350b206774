"""Where the records come from: the files that the `data` group names, or the demo set, made on the spot."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from dvlm.config import DataConfig
from dvlm.data import demo


def prepared(data: DataConfig, cache: Path) -> DataConfig:
    """The same group with absolute paths; a demo set that it asks for is made under `cache`, and named instead."""
    if data.demo is not None:
        train, val = demo.prepare(cache.resolve(), **asdict(data.demo))
        return replace(data, demo=None, train_jsonl=str(train), val_jsonl=str(val))
    val_jsonl = str(Path(data.val_jsonl).resolve()) if data.val_jsonl else None
    return replace(data, train_jsonl=str(Path(data.train_jsonl).resolve()), val_jsonl=val_jsonl)
