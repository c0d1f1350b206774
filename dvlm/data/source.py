"""From the `data` group to lines of checked records: one file, or a mixture of several."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import DataConfig
from dvlm.data import plugins, verify
from dvlm.data.encode import Encoder
from dvlm.data.files import own
from dvlm.data.index import RecordFile
from dvlm.data.line import Line
from dvlm.data.messages import Prompts
from dvlm.data.mixture import Mixture
from dvlm.values import Dialogue, InputError, Mode, Record

log = logging.getLogger(__name__)
TOKENS = ("coord", "text")  # groups of tokens, whose losses are logged apart too


def training(data: DataConfig, *, augmentation: Pipeline, encoder: Encoder, seed: int) -> Line | Mixture:
    """The checked training records: one line, or a mixture of the sources that `data` names."""
    shared: dict[str, Any] = {"augmentation": augmentation, "encoder": encoder}
    _check_names(data)
    if not data.sources:
        return build_line(Path(data.train_jsonl or ""), data, seed=seed, **shared)
    lines = [
        # Sources of equal length would otherwise be paired by the same permutation.
        build_line(Path(each.train_jsonl), own(data, each), seed=seed + zlib.crc32(each.name.encode()), **shared)
        for each in data.sources
    ]
    named = tuple(replace(line, source=each.name) for line, each in zip(lines, data.sources, strict=True))
    return Mixture(named, tuple(each.weight for each in data.sources), seed)


def validation(data: DataConfig, *, augmentation: Pipeline, encoder: Encoder, seed: int) -> Line | None:
    """The checked validation records, if there are any."""
    if not data.val_jsonl:
        return None
    return build_line(Path(data.val_jsonl), data, augmentation=augmentation, encoder=encoder, seed=seed)


def _check_names(data: DataConfig) -> None:
    """Sources stand beside modes in the names of metrics: `sft_loss/<name>`."""
    for index, each in enumerate(data.sources):
        if not each.name.strip() or each.name in (*Mode, *TOKENS):
            expected = f"a name that is neither empty nor one of {', '.join((*Mode, *TOKENS))}: it names metrics"
            raise InputError(f"data.sources[{index}].name is '{each.name}', expected {expected}")


def build_line(file: Path, data: DataConfig, *, augmentation: Pipeline, encoder: Encoder, seed: int) -> Line:
    """The line of one JSONL file: read, preprocessed and checked; raises InputError at the first bad record, unless
    `data.on_bad_record` leaves it out."""
    build = plugins.function("data.message_builder", data.message_builder)
    records = RecordFile(file, data.sample_limit)
    found = verify.check(records, data)
    return Line(
        parts=_chosen(records, found, data),
        augmentation=augmentation,
        prompts=Prompts.of(data),
        encoder=encoder,
        seed=seed,
        images_per_user_turn=1 if records.kind is Dialogue else data.images_per_user_turn,
        summary_ratio=data.summary_ratio,
        build=build,
        bad=found.left_out,
    )


def _chosen(records: RecordFile, found: verify.Found, data: DataConfig) -> Sequence[Record | Dialogue]:
    """The good records that the preprocessors leave; the log says how many are not among them, and why."""
    functions = plugins.functions(data)
    if len(found.kept) == len(records) and not functions:
        return records
    reasons = [f"{found.dropped[name]} by {name}" for name in map(plugins.name_of, functions)]
    reasons += [f"{len(found.bad)} bad, such as {found.bad[0][0]}"] if found.bad else []
    if not found.kept:
        raise InputError(f"{records.file}: none of {len(records)} records is left: {', '.join(reasons)}")
    left = f"{len(found.kept)} of {len(records)} records are left; dropped: {', '.join(reasons)}"
    log.log(logging.WARNING if found.bad else logging.INFO, "%s: %s", records.file, left)
    return plugins.Chosen(records, found.kept, functions)
