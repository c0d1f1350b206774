"""COCO and LVIS detection annotations become records: one image, one record.

Both measure in pixels from the top left corner of the image, as records do. COCO names the file of an image in
`file_name`, LVIS in the last two parts of `coco_url`.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from dvlm.config import ConvertConfig
from dvlm.data.coco_shapes import BadShape, shape, tidy, visible
from dvlm.data.writing import seen_from
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import InputError

CROWD = "crowd annotations left out"
BAD = "bad annotations left out"
NO_AREA = "annotations without area in their image left out"
NO_OBJECTS = "images without objects left out"
NO_POLYGON = "boxes for want of a polygon"


@dataclass(frozen=True)
class Converted:
    """What became of one image: its record, None where it is left out, and how often what happened."""

    record: dict[str, Any] | None
    events: Counter[str]


@dataclass(frozen=True)
class _Label:
    """A category: its name for summaries, and its objects' description."""

    name: str
    desc: str


@dataclass
class _Image:
    """An entry of `images` with its annotations; `place` names both for errors."""

    place: str
    entry: dict[str, Any]
    annotations: list[dict[str, Any]] = field(default_factory=list)


def conversions(config: ConvertConfig) -> Iterator[Converted]:
    """Each image of `config.annotations` in the order of the file, its objects in the order of the annotations.

    Raises InputError naming the file and the id of the image, annotation or category.
    """
    file = Path(config.annotations)
    content = _load(file, with_polygons=config.polygons == "quad")
    labels = {key: _label(place, entry, config.desc) for key, place, entry in _entries(file, content, "categories")}
    images = {key: _Image(place, entry) for key, place, entry in _entries(file, content, "images")}
    strays = _assign(file, content, images)
    if strays and config.on_bad_annotation == "error":
        raise strays[0]
    if strays:
        yield Converted(None, Counter({BAD: len(strays)}))
    for image in images.values():
        yield _converted(image, labels, config)


def _load(file: Path, *, with_polygons: bool) -> dict[str, Any]:
    """The JSON of `file`; polygons, most of its volume, are dropped while it is read unless they are needed."""

    def without(entry: dict[str, Any]) -> dict[str, Any]:
        entry.pop("segmentation", None)
        return entry

    try:
        with file.open(encoding="utf-8-sig") as handle:
            content = json.load(handle, object_hook=None if with_polygons else without)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}; check annotations=<file>") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON in UTF-8: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: a {type(content).__name__}, expected an object with images, annotations, categories")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise InputError(f"{file}: no list '{key}'; expected images, annotations and categories (instances_*.json)")
    return content


def _entries(file: Path, content: dict[str, Any], key: str) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """(id, place for errors, entry) of the images or categories; raises InputError for an id missing or taken."""
    known = set()
    for index, entry in enumerate(content[key]):
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(number, int | str):
            raise InputError(f"{file}: {key}[{index}]: id is {_shown(number)}, expected a number or a text")
        if number in known:
            raise InputError(f"{file}: {key}[{index}]: id {_shown(number)} is taken already; give each entry its own")
        known.add(number)
        yield number, f"{file}: {'image' if key == 'images' else 'category'} {_shown(number)}", entry


def _assign(file: Path, content: dict[str, Any], images: dict[Any, _Image]) -> list[InputError]:
    """Give every annotation to its image; the errors of those that have none."""
    strays = []
    for index, annotation in enumerate(content["annotations"]):
        number = annotation.get("image_id") if isinstance(annotation, dict) else None
        image = images.get(number) if isinstance(number, int | str) else None
        if image is None:
            name = annotation.get("id") if isinstance(annotation, dict) else None
            place = f"{file}: annotations[{index}] (id {_shown(name)})"
            strays.append(_bad(place, f"image_id is {_shown(number)}", "the id of an image of the file"))
        else:
            image.annotations.append(annotation)
    return strays


def _label(place: str, category: dict[str, Any], template: str) -> _Label:
    texts = {key: value for key, value in category.items() if isinstance(value, str) and value.strip()}
    for key in ("name", *(key for _, key, _, _ in Formatter().parse(template) if key is not None)):
        if key not in texts:
            known = ", ".join(f"{{{name}}}" for name in texts)
            raise InputError(f"{place}: no text '{key}'; desc={template} may use {known or 'nothing here'}")
    label = _Label(texts["name"], template.format_map(texts))
    for text in (label.name, label.desc):
        if "<|" in text or not _writable(text):
            raise InputError(f"{place}: {_shown(text)} holds '<|' or half a character; rename the category")
    return label


def _converted(image: _Image, labels: dict[Any, _Label], config: ConvertConfig) -> Converted:
    events: Counter[str] = Counter()
    width, height = (_side(image, key) for key in ("width", "height"))
    found = []
    for annotation in image.annotations:
        if annotation.get("iscrowd"):
            events[CROWD] += 1
            continue
        try:
            found.append((_category(image, annotation, labels), _shape(image, annotation, width, height, config)))
        except InputError:
            if config.on_bad_annotation == "error":
                raise
            events[BAD] += 1
    seen, kept = visible(Shapes.build(shape for _, shape in found), width, height)
    events[NO_AREA] += len(found) - len(kept)
    events[NO_POLYGON] += int(np.sum(seen.kinds == Kind.BBOX)) if config.polygons == "quad" else 0
    if not kept and not config.keep_empty:
        return Converted(None, events + Counter({NO_OBJECTS: 1}))
    return Converted(_record(image, (width, height), seen, [found[index][0] for index in kept], config), +events)


def _record(
    image: _Image, size: tuple[int, int], shapes: Shapes, labels: list[_Label], config: ConvertConfig
) -> dict[str, Any]:
    output = Path(config.output).absolute()
    record: dict[str, Any] = {"images": [seen_from(output.parent, _picture(image, config))]}
    record |= {"width": size[0], "height": size[1]}
    if config.summary:
        record["summary"] = _summary(labels) or config.empty_summary
    record["objects"] = [
        {shapes.kind(index).key: tidy(shapes.of(index)), "desc": label.desc} for index, label in enumerate(labels)
    ]
    return record


def _summary(labels: Iterable[_Label]) -> str:
    return "/".join(f"{name}×{count}" for name, count in Counter(label.name for label in labels).items())


def _side(image: _Image, key: str) -> int:
    value = image.entry.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 1e6 or value != int(value):
        raise InputError(f"{image.place}: {key} is {_shown(value)}, expected a whole number of pixels")
    return int(value)


def _picture(image: _Image, config: ConvertConfig) -> Path:
    """The file of an image, under the folder of images: with the folders of its name, else without them."""
    key = "coco_url" if config.source == "lvis" and "coco_url" in image.entry else "file_name"
    name = image.entry.get(key)
    if not isinstance(name, str) or not name or not _writable(name):
        way = "; LVIS files take source=lvis" if "coco_url" in image.entry else ""
        raise InputError(f"{image.place}: {key} is {_shown(name)}, expected the name of the image file{way}")
    folder = Path(config.images or Path(config.annotations).parent).absolute()
    parts = re.split(r"[\\/]", name)
    named = Path(*parts[-2:]) if key == "coco_url" else Path(name)
    for path in (folder / named, folder / parts[-1]):
        if os.path.isfile(path):
            return path
    raise InputError(f"{image.place}: there is no {named} in {folder}; give the folder of the images: images=<folder>")


def _category(image: _Image, annotation: dict[str, Any], labels: dict[Any, _Label]) -> _Label:
    number = annotation.get("category_id")
    if not isinstance(number, int | str) or number not in labels:
        what = f"category_id is {_shown(number)}"
        raise _bad(_place(image, annotation), what, "the id of a category of the file")
    return labels[number]


def _shape(
    image: _Image, annotation: dict[str, Any], width: int, height: int, config: ConvertConfig
) -> tuple[Kind, list[float]]:
    try:
        return shape(annotation, width, height, quads=config.polygons == "quad", clip=config.outside == "clip")
    except BadShape as error:
        raise _bad(_place(image, annotation), error.found, error.expected) from error


def _place(image: _Image, annotation: dict[str, Any]) -> str:
    return f"{image.place}: annotation {_shown(annotation.get('id'))}"


def _bad(place: str, found: str, expected: str) -> InputError:
    way = "mend it, or leave such annotations out with on_bad_annotation=skip"
    return InputError(f"{place}: {found}, expected {expected}; {way}")


def _writable(text: str) -> bool:
    """Whether UTF-8 can hold the text: JSON can escape half a character."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _shown(value: Any) -> str:
    return "missing" if value is None else json.dumps(value, ensure_ascii=False, default=str)[:200]
