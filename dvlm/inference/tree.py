"""What Stage-A reads: a folder of images, or missions of groups of images. Everything in natural order.

`<root>/<mission>/{审核通过|审核不通过}/<group_id>/*.jpg`; groups that nobody has judged lie in the mission itself.
What cannot be asked about is a fault: it is named, and the rest goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from dvlm.data.roots import inside
from dvlm.inference.inputs import SUFFIXES, folder_images, natural
from dvlm.values import InputError

LABELS = ("审核通过", "审核不通过")
LAYOUTS = "a folder of images, or <mission>/{审核通过|审核不通过}/<group_id>/ with images below it"


@dataclass(frozen=True)
class Group:
    """Images that are judged together; `label` is empty where nobody has. In a plain folder every image is one."""

    name: str
    label: str
    images: tuple[Path, ...]


@dataclass(frozen=True)
class Mission:
    """The groups of one output file, and the words that the user prompt says of it; a plain folder has no `name`."""

    name: str
    focus: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Tree:
    """All that there is to ask about; `width` is the number of images of the largest group below `root`."""

    root: Path
    missions: tuple[Mission, ...]
    width: int
    faults: tuple[str, ...]

    def shard(self, number: int, of: int) -> Tree:
        """The `number`-th (from 1) of `of` ranges of groups, all missions end to end; the first has the faults."""
        total = sum(len(mission.groups) for mission in self.missions)
        first, last = (total * edge // of for edge in (number - 1, number))
        starts = accumulate((len(mission.groups) for mission in self.missions), initial=0)
        cut = tuple(
            replace(mission, groups=mission.groups[max(0, first - start) : max(0, last - start)])
            for mission, start in zip(self.missions, starts, strict=False)
        )
        return replace(self, missions=cut, faults=self.faults if number == 1 else ())

    def confined(self, roots: Sequence[str]) -> Tree:
        """Without the groups that have an image outside of `roots`, once links are followed; each is a fault."""
        faults = list(self.faults)
        missions = []
        for mission in self.missions:
            kept = []
            for group in mission.groups:
                out = [path for path in group.images if not inside(path, roots)]
                faults += [f"{path}: leads out of image_root, {', '.join(roots)}" for path in out]
                kept += [] if out else [group]
            missions.append(replace(mission, groups=tuple(kept)))
        return replace(self, missions=tuple(missions), faults=tuple(faults))


def read(root: Path, focus: Mapping[str, str], chosen: str = "") -> Tree:
    """What lies below `root`. `focus` has the words of each configured mission; `chosen` leaves out all others.

    Raises InputError where there is neither an image nor a mission.
    """
    if not root.is_dir():
        raise InputError(f"input: {root} is no folder; give {LAYOUTS}")
    folders = [root] if _is_labelled(root) else _folders(root)
    images = [] if folders == [root] else folder_images(root)
    if images and not any(map(_is_labelled, folders)):
        return _plain(root, images, focus.get(chosen, ""))
    if not folders:
        raise InputError(f"input: nothing in {root}; expected {LAYOUTS}")
    found = {folder.name: _groups(folder) for folder in folders}
    if chosen and chosen not in found:
        raise InputError(f"mission: there is no folder {chosen} in {root}; there are: {', '.join(found)}")
    faults = [] if chosen else [f"{image}: lies in no group" for image in images]
    missions = []
    for name, (groups, wrong) in found.items():
        if chosen in ("", name):
            faults += wrong if name in focus else [_unconfigured(name, focus)]
            missions += [Mission(name, focus[name], tuple(groups))] if name in focus else []
    width = max((len(group.images) for groups, _ in found.values() for group in groups), default=0)
    return Tree(root, tuple(missions), width, tuple(faults))


def _unconfigured(name: str, focus: Mapping[str, str]) -> str:
    known = ", ".join(focus)
    return f"{name}: this mission is not configured; write conf/mission/<option>.yaml with name: {name}; known: {known}"


def _plain(root: Path, images: list[Path], focus: str) -> Tree:
    names = Counter(image.stem for image in images)
    faults = [
        f"{image}: image_id {image.stem} would be another image's, too" for image in images if names[image.stem] > 1
    ]
    groups = [Group(image.stem, "", (image,)) for image in images if names[image.stem] == 1]
    return Tree(root, (Mission("", focus, tuple(groups)),), 1, tuple(faults))


def _groups(mission: Path) -> tuple[list[Group], list[str]]:
    """The groups of a mission, labelled ones first, and what is wrong with it."""
    found = [*_labelled(mission)]
    names = Counter(group.name for group, _ in found)
    places = [mission, *(mission / label for label in LABELS if (mission / label).is_dir())]
    faults = [f"{image}: lies in no group" for place in places for image in folder_images(place)]
    faults += [f"{folder}: there is another group {group.name}" for group, folder in found if names[group.name] > 1]
    faults += [
        f"{folder}: no image ({', '.join(SUFFIXES)}) in this group" for group, folder in found if not group.images
    ]
    if not found:
        faults.append(f"{mission}: no group in it; expected {{{'|'.join(LABELS)}}}/<group_id>/")
    return [group for group, _ in found if group.images and names[group.name] == 1], faults


def _labelled(mission: Path) -> Iterator[tuple[Group, Path]]:
    for label in (*LABELS, ""):
        for folder in _folders(mission / label) if (mission / label).is_dir() else ():
            if label or folder.name not in LABELS:
                yield Group(folder.name, label, tuple(folder_images(folder))), folder


def _is_labelled(folder: Path) -> bool:
    return any((folder / label).is_dir() for label in LABELS)


def _folders(place: Path) -> list[Path]:
    return sorted((each for each in place.iterdir() if each.is_dir() and each.name[0] not in ".@"), key=natural)
