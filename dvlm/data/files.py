"""The files that the `data` group names, or the demo set, made on the spot."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from dvlm.config import DataConfig
from dvlm.data import demo
from dvlm.values import InputError


def prepared(data: DataConfig, cache: Path) -> DataConfig:
    """The same group with absolute paths; a demo set that it asks for is made under `cache`, and named instead.

    Raises InputError for a group that names its training records twice.
    """
    if data.sources and data.train_jsonl:
        raise InputError(
            f"data.train_jsonl is '{data.train_jsonl}', but data.sources names the training records; "
            "leave one of them out: several sources go with data=mixture"
        )
    if data.demo is not None:
        train, val = demo.prepare(cache.resolve(), **asdict(data.demo))
        return replace(data, demo=None, train_jsonl=str(train), val_jsonl=str(val))
    sources = [replace(source, train_jsonl=str(Path(source.train_jsonl).resolve())) for source in data.sources]
    return replace(data, train_jsonl=_absolute(data.train_jsonl), val_jsonl=_absolute(data.val_jsonl), sources=sources)


def record_files(data: DataConfig) -> list[str]:
    """Every file that a run reads records from, validation last."""
    named = [data.train_jsonl, *(source.train_jsonl for source in data.sources), data.val_jsonl]
    return [file for file in named if file]


def _absolute(file: str | None) -> str | None:
    return str(Path(file).resolve()) if file else None
