"""Which images a path means: one file, a folder in natural order, or the images of a JSONL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from dvlm.data.records import failing, lines, loads
from dvlm.data.roots import inside
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


def images_of(given: Path, roots: Sequence[str] = ()) -> list[Path]:
    """The images that `given` means; raises InputError where there are none, and for one that lies outside of `roots`
    once links are followed."""
    if given.is_dir():
        found = folder_images(given)
        if not found:
            raise InputError(f"input: no image ({', '.join(SUFFIXES)}) in {given}")
    elif not given.is_file():
        raise InputError(f"input: {given} does not exist; give an image, a folder of images or a JSONL")
    elif given.suffix.lower() == ".jsonl":
        return list(_jsonl_images(given, roots))
    else:
        found = [given]
    for path in found:
        if not inside(path, roots):
            raise InputError(f"input: {path} leads out of image_root, {', '.join(roots)}")
    return found


def naming(image: object, reason: str) -> str:
    """`reason` with its image before it, unless it names it itself."""
    return reason if str(image) in reason else f"{image}: {reason}"


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Neighbours, `size` at a time."""
    left = iter(items)
    while group := tuple(islice(left, size)):
        yield group


def _jsonl_images(file: Path, roots: Sequence[str]) -> Iterator[Path]:
    for number, raw in lines(file):
        fail = failing(file, number)
        images = loads(raw, fail).get("images")
        if not isinstance(images, list) or not images or not all(isinstance(image, str) for image in images):
            raise fail("images", images, "a list of paths")
        for image in images:
            path = file.parent / image
            if not inside(path, roots):
                raise fail("images", image, f"a path that leads into image_root, {', '.join(roots)}")
            yield path
