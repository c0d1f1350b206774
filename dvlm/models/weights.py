"""Files of tensors, read as safetensors or not at all: nothing in them can run."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dvlm.values import InputError


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; raises InputError for any other file."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read as safetensors, and as nothing else it is read: {error}") from error
