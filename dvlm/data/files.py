"""The files that the `data` group names, or the demo set, made on the spot."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from dvlm.config import DataConfig, SourceConfig
from dvlm.data import demo, roots
from dvlm.values import InputError


def prepared(data: DataConfig, cache: Path) -> DataConfig:
    """The same group with absolute paths; a demo set that it asks for is made under `cache`, and named instead.

    Raises InputError for a group that names its training records twice, and for an image root that is no folder.
    """
    if data.sources and data.train_jsonl:
        raise InputError(
            f"data.train_jsonl is '{data.train_jsonl}', but data.sources names the training records; "
            "leave one of them out: several sources go with data=mixture"
        )
    data = replace(data, image_root=roots.existing("data.image_root", data.image_roots) or None)
    if data.demo is not None:
        train, val = demo.prepare(cache.resolve(), **asdict(data.demo))
        return replace(data, demo=None, train_jsonl=str(train), val_jsonl=str(val))
    sources = [replace(source, train_jsonl=str(Path(source.train_jsonl).resolve())) for source in data.sources]
    return replace(data, train_jsonl=_absolute(data.train_jsonl), val_jsonl=_absolute(data.val_jsonl), sources=sources)


def record_files(data: DataConfig) -> list[str]:
    """Every file that a run reads records from, validation last."""
    return [str(file) for file, _ in groups(data)]


def train_records(data: DataConfig) -> int:
    """How many training records there are: lines of the files that are there, or what the demo set would have."""
    if data.demo is not None:
        return data.demo.train
    named = [(data.train_jsonl, 1.0), *((source.train_jsonl, source.weight) for source in data.sources)]
    return round(sum(_lines(Path(file)) * weight for file, weight in named if file))


def _lines(file: Path) -> int:
    if not file.is_file():
        raise InputError(f"data.train_jsonl: {file} does not exist; name a file, or give the number as records=<n>")
    with file.open("rb") as handle:
        return sum(1 for line in handle if line.strip())


def own(data: DataConfig, source: SourceConfig) -> DataConfig:
    """The `data` group as one source sees it: its own settings where it has them."""
    names = ("summary_ratio", "user_prompt", "system_prompt_dense", "system_prompt_summary")
    given = {name: getattr(source, name) for name in names if getattr(source, name) is not None}
    return replace(data, **given)


def groups(data: DataConfig) -> list[tuple[Path, DataConfig]]:
    """Every file that a run reads records from, validation last, and the `data` group as the file sees it."""
    sources = [(source.train_jsonl, own(data, source)) for source in data.sources]
    named = [(data.train_jsonl, data), *sources, (data.val_jsonl, data)]
    return [(Path(file), group) for file, group in named if file]


def _absolute(file: str | None) -> str | None:
    return str(Path(file).resolve()) if file else None
