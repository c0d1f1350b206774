"""Files of tensors, read as safetensors or not at all: nothing in them can run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from dvlm.values import InputError


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; raises InputError for any other file."""
    with _told(file):
        return load_file(file)


def check(file: Path) -> None:
    """Raises InputError for a file that is no safetensors file; of one that is, only the header is read."""
    with _told(file), safe_open(file, "pt"):
        pass


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read as safetensors, and as nothing else it is read: {error}") from error
