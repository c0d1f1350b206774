"""What must hold before training: records fit their modes, images exist, have the stated size, and decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dvlm.config import DataConfig
from dvlm.data import images, plugins
from dvlm.data.parallel import in_parallel
from dvlm.data.records import RecordError, check_kind, failing, lines, parse
from dvlm.values import Dialogue, InputError, Record

AUTO_FULL = 2000
CHUNK = 256  # lines that a process checks at a time
OUTSIDE = 1.0  # pixels that a coordinate may lie beyond the image: labelling tools round
LONGEST_RATIO = 200  # of the sides of an image: Qwen's processor takes no other


def check(parts: Sequence[Record | Dialogue], config: DataConfig) -> None:
    """Raise the first error among records or dialogues. Many are read in parallel."""
    check_range = partial(_range_error, parts, config, decodes(config, len(parts)))
    ranges = [range(start, min(start + CHUNK, len(parts))) for start in range(0, len(parts), CHUNK)]
    for error in in_parallel(check_range, ranges):
        if error is not None:
            raise error


def _range_error(
    parts: Sequence[Record | Dialogue], config: DataConfig, full: bool, indices: range
) -> InputError | None:
    try:
        return next((error for i in indices for error in errors(parts[i], config, full=full)), None)
    except InputError as error:
        return error


def decodes(config: DataConfig, count: int) -> bool:
    """Whether `count` images are decoded before training, or only their headers read."""
    return config.verify_images == "full" or (config.verify_images == "auto" and count <= AUTO_FULL)


def bad_lines(file: Path, config: DataConfig) -> Iterator[InputError]:
    """Every error of a JSONL file, line by line; an unreadable file is one error. Many lines are read in parallel.

    What the preprocessors of `config` drop has to be readable, no more.
    """
    functions = plugins.functions(config)
    try:
        numbered = list(lines(file))
    except InputError as error:
        yield error
        return
    if not numbered:
        yield InputError(f"{file}: no records: the file is empty")
    kind = _first_kind(file, numbered)
    check_chunk = partial(_chunk_errors, file, config, kind, functions, decodes(config, len(numbered)))
    chunks = [numbered[start : start + CHUNK] for start in range(0, len(numbered), CHUNK)]
    for found in in_parallel(check_chunk, chunks):
        yield from found


def _first_kind(file: Path, numbered: list[tuple[int, bytes]]) -> type:
    for line, raw in numbered:
        try:
            return type(parse(file, line, raw))
        except InputError:
            continue
    return Record


def _chunk_errors(
    file: Path,
    config: DataConfig,
    kind: type,
    functions: Sequence[plugins.Preprocessor],
    full: bool,
    numbered: list[tuple[int, bytes]],
) -> list[InputError]:
    found: list[InputError] = []
    for line, raw in numbered:
        try:
            read = parse(file, line, raw)
            check_kind(read, kind)
            part = plugins.preprocess(read, functions)
        except InputError as error:
            found += [error, *(error.others if isinstance(error, RecordError) else ())]
            continue
        if part is not None:
            found += errors(part, config, full=full)
    return found


def errors(part: Record | Dialogue, config: DataConfig, *, full: bool) -> Iterator[InputError]:
    """The errors of one line that its text alone does not show."""
    if isinstance(part, Dialogue):
        for path in part.images:
            yield from _image_errors(part, path, None, full=full)
        return
    fail = failing(part.file, part.line)
    if config.summary_ratio > 0 and part.summary is None:
        yield fail("summary", None, f"a summary, since data.summary_ratio is {config.summary_ratio}")
    if config.summary_ratio < 1 and part.objects is None:
        yield fail("objects", None, f"objects, since data.summary_ratio is {config.summary_ratio} (below 1)")
    yield from _outside(part)
    yield from _image_errors(part, part.image, (part.width, part.height), full=full)


def _outside(record: Record) -> Iterator[InputError]:
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
    part: Record | Dialogue, path: Path, stated: tuple[int, int] | None, *, full: bool
) -> Iterator[InputError]:
    fail = failing(part.file, part.line)
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
