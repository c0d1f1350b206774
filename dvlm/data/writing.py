"""Writing a JSONL: the file appears whole or not at all, and it names its images from where it lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dvlm import durable
from dvlm.values import InputError


@contextmanager
def whole(path: Path, *, overwrite: bool) -> Iterator[TextIO]:
    """A handle for the text of `path`, which appears when the block ends, and not at all when it raises.

    Parents are made. Raises InputError when there is such a file already, unless `overwrite` replaces it, and when
    the disk refuses.
    """
    try:
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists already; choose another output, or replace it with overwrite=true")
        with durable.appearing(path) as fresh, fresh.open("x", encoding="utf-8", newline="\n") as handle:
            yield handle
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}; choose another output") from error


def seen_from(folder: Path, image: Path) -> str:
    """The path of `image` for a JSONL in `folder`, both absolute: relative with `/`, absolute on another drive.

    What lies in the folder keeps its path, links and all. Elsewhere links are followed first, since `..` leaves the
    place that a link leads to.
    """
    if image.is_relative_to(folder):
        return image.relative_to(folder).as_posix()
    real = Path(os.path.realpath(image.parent), image.name)
    try:
        return Path(os.path.relpath(real, os.path.realpath(folder))).as_posix()
    except ValueError:
        return real.as_posix()
