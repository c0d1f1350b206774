"""Which images a path means: one file, a folder in natural order, or the images of a JSONL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from dvlm.values import InputError

T = TypeVar("T")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts img2 before img10: digits by their value, the rest by its letters."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts if part]


def folder_images(folder: Path) -> list[Path]:
    """The images in `folder`, not below it, in natural order."""
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES), key=natural)


def images_of(given: Path) -> list[Path]:
    """The images that `given` means; raises InputError where there are none."""
    if given.is_dir():
        found = folder_images(given)
        if not found:
            raise InputError(f"input: no image ({', '.join(SUFFIXES)}) in {given}")
        return found
    if not given.is_file():
        raise InputError(f"input: {given} does not exist; give an image, a folder of images or a JSONL")
    return list(_jsonl_images(given)) if given.suffix.lower() == ".jsonl" else [given]


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Neighbours, `size` at a time."""
    left = iter(items)
    while group := tuple(islice(left, size)):
        yield group


def _jsonl_images(file: Path) -> Iterator[Path]:
    with file.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                for image in _images(line, f"{file}:{number}"):
                    yield file.parent / image


def _images(line: str, place: str) -> list[str]:
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place}: this line is not JSON: {error}") from error
    images = record.get("images") if isinstance(record, dict) else None
    if not isinstance(images, list) or not images or not all(isinstance(image, str) for image in images):
        raise InputError(f"{place}: images: got {images!r:.60}, expected a list of paths")
    return images
