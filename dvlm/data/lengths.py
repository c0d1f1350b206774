"""The exact lengths of all turns of all epochs, before step 1: in parallel, and kept for the next run that asks."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np

from dvlm import durable
from dvlm.data.line import CHUNK
from dvlm.data.mixture import Source
from dvlm.data.parallel import in_parallel
from dvlm.data.plan import Lengths

log = logging.getLogger(__name__)
VERSION = 1  # raise it when the same settings give other lengths
STORED = "<i8"  # of a kept number
DIGEST = hashlib.sha256().digest_size  # bytes


def measure(line: Source, epochs: int, cache: Path | None = None) -> list[Lengths]:
    """(turns, 2) of tokens and supervised tokens for each epoch; `cache` is a directory to keep them in."""
    folder = _folder(line, cache) if cache is not None and line.cacheable else None
    known = _read_all(folder, epochs, line.turns) if folder else {}
    fresh = _measure(line, [epoch for epoch in range(epochs) if epoch not in known])
    for epoch, lengths in fresh.items():
        if folder:
            _keep(_file(folder, epoch), lengths)
    return [(known | fresh)[epoch] for epoch in range(epochs)]


def _measure(line: Source, epochs: list[int]) -> dict[int, Lengths]:
    starts = range(0, line.turns, CHUNK)
    tasks = [(epoch, range(start, min(start + CHUNK, line.turns))) for epoch in epochs for start in starts]
    parts = list(in_parallel(lambda task: line.lengths(*task), tasks))
    own = {epoch: [part for task, part in zip(tasks, parts, strict=True) if task[0] == epoch] for epoch in epochs}
    return {epoch: np.concatenate(found) for epoch, found in own.items()}


def _folder(line: Source, cache: Path) -> Path:
    text = json.dumps([VERSION, line.settings()], ensure_ascii=False)
    return cache / f"lengths-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}.bin"


def _keep(file: Path, lengths: Lengths) -> None:
    """Write the digest of the numbers and the numbers. A disk that refuses costs a warning, never the run."""
    content = lengths.astype(STORED).tobytes()
    try:
        durable.clean(file.parent)
        with durable.appearing(file) as fresh:
            fresh.write_bytes(hashlib.sha256(content).digest() + content)
    except OSError as error:
        log.warning("%s cannot be written, and the next run measures again: %s", file, error)


def _read_all(folder: Path, epochs: int, turns: int) -> dict[int, Lengths]:
    """The lengths of the epochs that are kept; a damaged file counts as none, and is named in the log."""
    found = {}
    for epoch in range(epochs):
        file = _file(folder, epoch)
        if not file.is_file():
            continue
        raw = file.read_bytes()
        digest, content = raw[:DIGEST], raw[DIGEST:]
        if hashlib.sha256(content).digest() == digest:
            found[epoch] = np.frombuffer(content, STORED).astype(np.int64).reshape(turns, 2)
        else:
            log.warning("%s is damaged: the lengths of epoch %d are measured again", file, epoch)
    return found
