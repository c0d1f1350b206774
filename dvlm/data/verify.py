"""What must hold before training: records fit their modes, images exist, have the stated size, and decode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import floor
from pathlib import Path

import numpy as np

from dvlm.config import DataConfig
from dvlm.data import images, plugins
from dvlm.data.index import RecordFile
from dvlm.data.parallel import in_parallel
from dvlm.data.records import RecordError, failing
from dvlm.data.roots import inside
from dvlm.values import BadRecord, Dialogue, InputError, Record

AUTO_FULL = 2000
CHUNK = 256  # lines that a process checks at a time
OUTSIDE = 1.0  # pixels that a coordinate may lie beyond the image: labelling tools round
LONGEST_RATIO = 200  # of the sides of an image: Qwen's processor takes no other


@dataclass
class Found:
    """What a look at records finds: the places of the good ones, what each preprocessor dropped, and the errors of each
    bad one."""

    kept: list[int] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    bad: list[list[RecordError]] = field(default_factory=list)

    @property
    def left_out(self) -> tuple[BadRecord, ...]:
        """The bad records, each with all that is wrong with it."""
        return tuple(BadRecord(own[0].file, own[0].line, tuple(error.what for error in own)) for own in self.bad)


def check(parts: Sequence[Record | Dialogue], config: DataConfig) -> Found:
    """Look at every record or dialogue, as preprocessors leave it. Many are read in parallel.

    With `data.on_bad_record=error` the first bad one raises its error; with `skip` more than `data.max_bad_records` of
    them raise InputError.
    """
    whole = Found()
    for found in _found(parts, config):
        if found.bad and config.on_bad_record == "error":
            raise found.bad[0][0]
        whole.kept += found.kept
        whole.dropped += found.dropped
        whole.bad += found.bad
    _check_budget(len(parts), whole.bad, config.max_bad_records)
    return whole


def _check_budget(count: int, bad: Sequence[Sequence[RecordError]], limit: float) -> None:
    """Raise InputError for more bad records than `limit`: below 1 a share of `count`, else a number."""
    allowed = floor(limit * count + 1e-9) if limit < 1 else floor(limit)
    if len(bad) > allowed:
        first = bad[0][0]
        raise InputError(
            f"{first.file}: {len(bad)} of {count} records are bad, and data.max_bad_records={limit:g} leaves out "
            f"{allowed} at most; mend them (python -m dvlm.validate lists all), or raise it. The first: {first}"
        )


def bad_lines(file: Path, config: DataConfig) -> Iterator[InputError]:
    """Every error of a JSONL file, line by line; an unreadable file is one error. Many lines are read in parallel.

    What the preprocessors of `config` drop has to be readable, no more.
    """
    try:
        parts = RecordFile(file)
    except InputError as error:
        yield error
        return
    for found in _found(parts, config):
        for own in found.bad:
            yield from own


def _found(parts: Sequence[Record | Dialogue], config: DataConfig) -> Iterator[Found]:
    look = partial(_look, parts, config, plugins.functions(config), decodes(config, len(parts)))
    return in_parallel(look, [range(start, min(start + CHUNK, len(parts))) for start in range(0, len(parts), CHUNK)])


def decodes(config: DataConfig, count: int) -> bool:
    """Whether `count` images are decoded before training, or only their headers read."""
    return config.verify_images == "full" or (config.verify_images == "auto" and count <= AUTO_FULL)


def _look(
    parts: Sequence[Record | Dialogue],
    config: DataConfig,
    functions: Sequence[plugins.Preprocessor],
    full: bool,
    indices: range,
) -> Found:
    found = Found()
    for index in indices:
        try:
            part = plugins.preprocess(parts[index], functions, found.dropped)
            wrong = [] if part is None else list(errors(part, config, full=full))
        except RecordError as error:
            wrong = [error, *error.others]
        if wrong:
            found.bad.append(wrong)
        elif part is not None:
            found.kept.append(index)
    return found


def errors(part: Record | Dialogue, config: DataConfig, *, full: bool) -> Iterator[RecordError]:
    """The errors of one line that its text alone does not show."""
    if isinstance(part, Dialogue):
        for path in part.images:
            yield from _image_errors(part, path, None, config, full=full)
        return
    fail = failing(part.file, part.line)
    if config.summary_ratio > 0 and part.summary is None:
        yield fail("summary", None, f"a summary, since data.summary_ratio is {config.summary_ratio}")
    if config.summary_ratio < 1 and part.objects is None:
        yield fail("objects", None, f"objects, since data.summary_ratio is {config.summary_ratio} (below 1)")
    yield from _outside(part)
    yield from _image_errors(part, part.image, (part.width, part.height), config, full=full)


def _outside(record: Record) -> Iterator[RecordError]:
    if record.objects is None:
        return
    shapes = record.objects.shapes
    low, high = shapes.bounds[:, :2], shapes.bounds[:, 2:]
    beyond = (low < -OUTSIDE).any(1) | (high > (record.width + OUTSIDE, record.height + OUTSIDE)).any(1)
    for index in map(int, np.flatnonzero(beyond)):
        yield failing(record.file, record.line)(
            f"objects[{index}].{shapes.kind(index).key}",
            shapes.of(index).reshape(-1).tolist(),
            f"pixels inside the image of {record.width}x{record.height}",
        )


def _image_errors(
    part: Record | Dialogue, path: Path, stated: tuple[int, int] | None, config: DataConfig, *, full: bool
) -> Iterator[RecordError]:
    fail = failing(part.file, part.line)
    if not inside(path, config.image_roots):
        yield fail("images", str(path), f"a path that leads into data.image_root, {', '.join(config.image_roots)}")
        return
    try:
        actual = images.size(path)
        if full:
            images.load(path)
    except images.ImageError as error:
        yield fail("images", str(error), "an image file that decodes")
        return
    if stated is not None and actual != stated:
        yield fail(
            "width, height", f"{stated[0]}x{stated[1]}", f"the size of the image, {actual[0]}x{actual[1]} ({path})"
        )
    if max(actual) > LONGEST_RATIO * min(actual):
        yield fail("images", f"{path} of {actual[0]}x{actual[1]}", f"sides that differ {LONGEST_RATIO} times at most")
