"""Digests: of a file, read in pieces, since it may be larger than memory; and of a sample."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dvlm.data.encode import IGNORED
from dvlm.values import Sample


def sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def of_sample(sample: Sample) -> str:
    """SHA-256, 40 hex digits, of all that a model's states at the supervised positions depend on: ids, which of them
    are supervised, grids and pixels."""
    digest = hashlib.sha256()
    for tensor in (sample.input_ids, sample.labels != IGNORED, sample.image_grid_thw, sample.pixel_values):
        if tensor is not None:
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:40]
