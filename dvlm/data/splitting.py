"""Records for training and for validation: what belongs together stays on one side.

A model that has seen a cabinet from the left has half seen it from the right. So images are grouped (by themselves, by
folder, by a part of their path), and a group goes to one side whole. A dialogue that shows images of several groups
makes one group of them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvlm.config import SplitConfig
from dvlm.data.records import lines, parse
from dvlm.data.writing import seen_from
from dvlm.values import Dialogue, InputError, Record, generator

Groups = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """The side of each of n lines: `groups` (n,) numbers their groups from 0, `val` (n,) bool is the side."""

    groups: Groups
    val: NDArray[np.bool_]


def split(config: SplitConfig) -> Split:
    """The sides of the lines of `config.input`: a pure function of the file, `val`, `group_by` and `seed`.

    Of all choices of whole groups, one whose number of records is nearest to the share `val`, each side with a group
    at least. Raises InputError naming `file:line` for a bad record and for a path without a group, and when there is
    one group only.
    """
    file = Path(config.input)
    if not file.is_file():
        raise InputError(f"{file}: there is no such file; check input=<file>")
    groups = connected(_keys(parse(file, line, raw), config.group_by) for line, raw in lines(file))
    sizes = np.bincount(groups)
    if len(sizes) < 2:
        what = "no records" if not len(sizes) else f"all {sizes[0]} records are of one group"
        raise InputError(f"{file}: {what}; a split needs two groups at least, change group_by={config.group_by}")
    chosen = choose(sizes, config.val * len(groups), generator(config.seed, "split", 0, 0))
    return Split(groups, np.isin(groups, chosen))


def moved(file: Path, folder: Path) -> Iterator[str]:
    """The lines of `file` as a JSONL in `folder` holds them: relative image paths lead to the same images."""
    origin = file.absolute().parent

    def move(path: str) -> str:
        return path if os.path.isabs(path) else seen_from(folder, origin / path)

    for _, raw in lines(file):
        row = json.loads(raw)
        if "images" in row:
            row["images"] = [move(path) for path in row["images"]]
        for message in row.get("messages", []):
            if isinstance(message["content"], list):
                message["content"] = [_moved_item(item, move) for item in message["content"]]
        yield json.dumps(row, ensure_ascii=False) + "\n"


def connected(keys: Iterable[Sequence[Hashable]]) -> Groups:
    """The groups (n,) of n lines with their keys: a common key, or a chain of them, puts lines into one group."""
    numbers: dict[Hashable, int] = {}
    parents: list[int] = []
    first = []
    for line in keys:
        nodes = [numbers.setdefault(key, len(numbers)) for key in line]
        parents.extend(range(len(parents), len(numbers)))
        for node in nodes[1:]:
            parents[_root(parents, node)] = _root(parents, nodes[0])
        first.append(nodes[0])
    roots = np.array([_root(parents, node) for node in first], np.int64)
    return np.unique(roots, return_inverse=True)[1]


def choose(sizes: Groups, wish: float, rng: np.random.Generator) -> Groups:
    """The groups whose sizes (k,) add up to a sum nearest to `wish`; at least one group, and not all of the k >= 2."""
    goal = int(np.clip(round(wish), 1, sizes.sum() - 1))
    order = rng.permutation(len(sizes))
    taken, left = [], goal
    for group in order:
        if sizes[group] <= left:
            taken.append(group)
            left -= sizes[group]
    return np.array(taken, np.int64) if left == 0 else _nearest(sizes, wish, goal, order)


def _nearest(sizes: Groups, wish: float, goal: int, order: Groups) -> Groups:
    """The same by every sum that can be reached: groups in turn, each sum remembers the group that first reached it."""
    # No nearest sum is larger: the smallest group alone is one.
    limit = int(min(sizes.sum() - 1, max(2 * goal, sizes.min())))
    reached = np.zeros(limit + 1, bool)
    reached[0] = True
    by = np.zeros(limit + 1, np.int64)
    for group in order:
        size = sizes[group]
        fresh = np.flatnonzero(reached[:-size] & ~reached[size:]) + size
        reached[fresh] = True
        by[fresh] = group
        if reached[goal]:
            break
    sums = np.flatnonzero(reached)[1:]
    rest = int(sums[np.abs(sums - wish).argmin()])
    taken = []
    while rest:
        taken.append(by[rest])
        rest -= sizes[by[rest]]
    return np.array(taken, np.int64)


def _root(parents: list[int], node: int) -> int:
    while parents[node] != node:
        parents[node] = node = parents[parents[node]]
    return node


def _keys(part: Record | Dialogue, group_by: str | None) -> list[Hashable]:
    """What the images of a line are grouped by; a line without images is a group of its own."""
    images = part.images if isinstance(part, Dialogue) else (part.image,)
    return [_key(part, image, group_by) for image in images] or [part.line]


def _key(part: Record | Dialogue, image: Path, group_by: str | None) -> Hashable:
    if group_by is None:
        return os.path.abspath(image)
    if group_by == "folder":
        return os.path.abspath(image.parent)
    folder = part.file.parent
    path = (image.relative_to(folder) if image.is_relative_to(folder) else image).as_posix()
    found = re.search(group_by, path)
    if found is None:
        raise InputError(f"{part.place}: images: {path}; expected a path that matches group_by={group_by}")
    return found.groups()


def _moved_item(item: dict[str, Any], move: Callable[[str], str]) -> dict[str, Any]:
    if item["type"] == "text":
        return item
    path = item[item["type"]]
    return {"type": "image", "image": move(path["url"] if isinstance(path, dict) else path)}
