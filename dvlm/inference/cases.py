"""What Stage-B reads: the groups of Stage-A's files, as questions in words alone. Bad lines are named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvlm.data.messages import image_key
from dvlm.inference.inputs import natural
from dvlm.inference.tree import LABELS
from dvlm.values import InputError


@dataclass(frozen=True)
class Case:
    """A group to be judged: what its images show, in order. `label` is empty where nobody has judged it."""

    group_id: str
    mission: str
    label: str
    summaries: tuple[str, ...]

    def question(self, focus: str) -> str:
        """Mission, what to look at, and the summaries, a line each."""
        shown = [f"{image_key(number)}: {summary}" for number, summary in enumerate(self.summaries, 1)]
        return "\n".join(filter(None, (self.mission, focus, *shown)))


def read(given: Path, *, mission: str, group_by: str | None, faults: list[str]) -> list[Case]:
    """The cases of a file of Stage-A, or of all in a folder; what is wrong with a line is added to `faults`.

    A file without groups (`image_id`, `summary`) is grouped by `group_by`: `all` makes one group of a file, a pattern
    names the group of an `image_id`. Raises InputError without it.
    """
    files = sorted(given.glob("*.jsonl"), key=natural) if given.is_dir() else [given]
    if not files or not files[0].is_file():
        raise InputError(f"input: no JSONL at {given}; give the file or the folder that Stage-A wrote")
    cases: dict[tuple[str, str], Case] = {}
    loose: dict[str, list[str]] = {}
    for file in files:
        for place, row in _rows(file, faults):
            try:
                if "image_id" in row:
                    loose.setdefault(_group(row, file, group_by), []).append(_summary(row.get("summary"), "summary"))
                    continue
                case = _case(row)
                if (case.mission, case.group_id) in cases:
                    raise _Fault(f"group {case.group_id} of {case.mission} was there before")
                cases[case.mission, case.group_id] = case
            except _Fault as fault:
                faults.append(f"{place}: {fault}")
    chosen = [case for case in cases.values() if mission in ("", case.mission)]
    return chosen + [Case(name, mission, "", tuple(summaries)) for name, summaries in loose.items()]


def check_focus(cases: Sequence[Case], focus: Mapping[str, str], faults: list[str]) -> list[Case]:
    """The cases whose mission is configured (or that have none); each other mission is a fault."""
    unknown = dict.fromkeys(case.mission for case in cases if case.mission and case.mission not in focus)
    faults += [f"{name}: this mission is not configured; configured: {', '.join(focus)}" for name in unknown]
    return [case for case in cases if case.mission not in unknown]


class _Fault(ValueError):
    """What is wrong with one line."""


def _rows(file: Path, faults: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, text in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), 1):
        if text.strip():
            place = f"{file}:{number}"
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                faults.append(f"{place}: this line is not JSON: {error}")
                continue
            if isinstance(row, dict):
                yield place, row
            else:
                faults.append(f"{place}: this line is {row!r:.40}, expected an object")


def _case(row: dict[str, Any]) -> Case:
    group_id, images, told = row.get("group_id"), row.get("images"), row.get("per_image")
    if not isinstance(group_id, str) or not group_id:
        raise _Fault(f"group_id is {group_id!r:.40}, expected text; is this a file of Stage-A?")
    if not isinstance(images, list) or not images or not isinstance(told, dict):
        raise _Fault(f"group {group_id}: expected images, a list that is not empty, and per_image, an object")
    label, mission = (row.get(key) or "" for key in ("label", "mission"))
    if label not in ("", *LABELS):
        raise _Fault(f"group {group_id}: label is {label!r:.40}, expected one of {', '.join(LABELS)}")
    names = [image_key(number) for number in range(1, len(images) + 1)]
    beyond = [name for name, summary in told.items() if summary and name not in names]
    if beyond:
        raise _Fault(f"group {group_id}: {beyond[0]} is beyond its {len(images)} images")
    return Case(
        group_id, str(mission), label, tuple(_summary(told.get(name), f"group {group_id}: {name}") for name in names)
    )


def _summary(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Fault(f"{name} is {'missing' if value is None else f'{value!r:.40}'}, expected a summary")
    if "<|" in value:
        raise _Fault(f"{name} holds a special token ('<|'): {value!r:.80}")
    return " ".join(value.split())


def _group(row: dict[str, Any], file: Path, group_by: str | None) -> str:
    if group_by is None:
        raise InputError(
            f"input: {file} tells of images, not of groups; say which belong together: "
            r"group_by=all, or a pattern such as group_by='(site\d+)_'"
        )
    if group_by == "all":
        return file.stem
    found = re.search(group_by, str(row["image_id"]))
    if found is None:
        raise _Fault(f"image_id {row['image_id']} has no part that matches group_by={group_by}")
    return found.group(1)
