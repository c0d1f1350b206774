"""A model's answer read back: per image its shapes in pixels and their descriptions, or why it cannot be read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from dvlm.data.messages import Prompts, image_key
from dvlm.data.records import GEOMETRY
from dvlm.geometry.normalise import denormalise
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import Annotation, InputError

FARTHEST = 1_000_000  # of a coordinate: beyond it a model has only repeated digits
COUNTS = {Kind.BBOX: lambda n: n == 4, Kind.QUAD: lambda n: n == 8, Kind.LINE: lambda n: n >= 4 and n % 2 == 0}


def parse(text: str, sizes: Sequence[tuple[int, int]], prompts: Prompts) -> list[Annotation]:
    """The objects of a dense answer for images of (width, height); raises InputError where it breaks the form."""
    answer = _loads(text)
    wanted = [image_key(number) for number in range(1, len(sizes) + 1)]
    if not isinstance(answer, dict):
        raise InputError(f"the answer is {answer!r:.60}, expected an object with the keys {wanted}")
    if sorted(answer) != sorted(wanted):
        raise InputError(f"the answer's keys are {list(answer)}, expected {wanted}")
    return [_annotation(answer[key], size, prompts) for key, size in zip(wanted, sizes, strict=True)]


def parse_summaries(text: str, images: int) -> list[str]:
    """The summary of each image of a summary answer; raises InputError where it breaks the form or is empty."""
    answer = _loads(text)
    wanted = [image_key(number) for number in range(1, images + 1)]
    if not isinstance(answer, dict) or sorted(answer) != sorted(wanted):
        raise InputError(f"the answer is {answer!r:.60}, expected an object with the keys {wanted}")
    for key in wanted:
        if not isinstance(answer[key], str) or not answer[key].strip():
            raise InputError(f"{key} is {answer[key]!r:.60}, expected a summary that is not empty")
    return [answer[key] for key in wanted]


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"the answer is not JSON: {error.msg} at character {error.pos}") from error
    except (ValueError, RecursionError) as error:
        # A model that repeats itself: thousands of digits, or of open brackets.
        raise InputError(f"the answer is JSON that cannot be read: {error}") from error


def readable(text: str, sizes: Sequence[tuple[int, int]], prompts: Prompts) -> list[Annotation]:
    """The objects that a broken answer spells out in full, image by image: for pictures, never for scores."""
    keys = [image_key(number) for number in range(1, len(sizes) + 1)]
    starts = [text.find(f'"{key}"') for key in keys]
    out = []
    for start, size in zip(starts, sizes, strict=True):
        end = min((other for other in starts if other > start), default=len(text))
        whole = re.findall(r"\{[^{}]*\}", text[start:end]) if start >= 0 else []
        found = [item for item in (_read_object(each, size, prompts) for each in whole) if item is not None]
        out.append(Annotation(*size, Shapes.build(shape for shape, _ in found), tuple(desc for _, desc in found)))
    return out


def _read_object(text: str, size: tuple[int, int], prompts: Prompts) -> tuple[tuple[Kind, list[float]], str] | None:
    try:
        return _object(_loads(text), size, prompts)
    except InputError:
        return None


def _annotation(objects: Any, size: tuple[int, int], prompts: Prompts) -> Annotation:
    if not isinstance(objects, list):
        raise InputError(f"an image's answer is {objects!r:.60}, expected a list of objects")
    pairs = [_object(item, size, prompts) for item in objects]
    return Annotation(*size, Shapes.build(shape for shape, _ in pairs), tuple(desc for _, desc in pairs))


def _object(item: Any, size: tuple[int, int], prompts: Prompts) -> tuple[tuple[Kind, list[float]], str]:
    keys = [key for key in GEOMETRY if isinstance(item, dict) and key in item]
    if len(keys) != 1 or set(item) != {keys[0], "desc"} or not isinstance(item["desc"], str):
        raise InputError(f"an object is {item!r:.60}, expected one geometry and a desc")
    kind, flat = GEOMETRY[keys[0]], item[keys[0]]
    if not isinstance(flat, list) or not all(map(_whole, flat)) or not COUNTS[kind](len(flat)):
        raise InputError(f"a {keys[0]} is {flat!r:.60}, expected its whole numbers")
    if kind is Kind.BBOX and (flat[0] > flat[2] or flat[1] > flat[3]):
        raise InputError(f"a {keys[0]} is {flat!r:.60}, expected x1 <= x2 and y1 <= y2")
    norm: Any = prompts.emit_norm
    points = denormalise(np.array(flat, np.int64).reshape(-1, 2), *size, norm)
    return (kind, points.reshape(-1).tolist()), item["desc"]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= FARTHEST
