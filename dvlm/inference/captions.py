"""Replies become lines of a JSONL, one an image, and pictures with everything drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvlm import drawing
from dvlm.data import images
from dvlm.data.messages import Prompts, objects
from dvlm.inference.engine import Reply
from dvlm.values import Annotation, InputError, Mode


def lines(reply: Reply, prompts: Prompts) -> Iterator[dict[str, Any]]:
    """One line an image, in the form of a record: objects in pixels, and again as norm1000; or a summary.

    Where there is no answer, the line says why under `error`, with what was written under `text`.
    """
    paths = [str(path) for path in reply.request.images]
    try:
        if reply.request.mode is Mode.SUMMARY:
            told: list[dict[str, Any]] = [{"summary": text} for text in reply.summaries()]
        else:
            told = [_dense(annotation, prompts) for annotation in reply.objects(prompts)]
    except InputError as error:
        told = [{"error": str(error)} | ({"text": reply.text} if reply.text else {})] * len(paths)
    sizes = [each.size for each in reply.asked.placed] if reply.asked else [None] * len(paths)
    for path, size, found in zip(paths, sizes, told, strict=True):
        yield {"images": [path]} | ({"width": size[0], "height": size[1]} if size else {}) | found


def _dense(annotation: Annotation, prompts: Prompts) -> dict[str, Any]:
    """Rounded to whole pixels, and to thousandths of the image."""
    as_told = replace(prompts, object_order="file")
    return {
        "objects": objects(annotation, replace(as_told, emit_norm="none")),
        "norm1000": objects(annotation, replace(as_told, emit_norm="norm1000")),
    }


def draw(reply: Reply, prompts: Prompts, folder: Path, first: int) -> None:
    """Write `<number>-<name>.png` for each image of a reply that can be read, numbered from `first`."""
    if reply.request.mode is Mode.SUMMARY:
        return
    try:
        told = reply.objects(prompts)
    except InputError:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number, (path, annotation) in enumerate(zip(reply.request.images, told, strict=True), first):
        picture = drawing.draw(images.load(path), annotation.shapes, annotation.descs)
        # A name has 255 bytes at most, of which that of the image may need all.
        drawing.save_png(folder / f"{number:05d}-{path.stem[:60]}.png", picture)
