"""Stage-A: one summary an image. Answers go to the journal; the output file is made of them when all are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvlm.data.messages import image_key
from dvlm.data.writing import seen_from, whole
from dvlm.inference.asking import Request
from dvlm.inference.engine import Engine, Reply
from dvlm.inference.inputs import batched, naming
from dvlm.inference.journal import Journal, Line
from dvlm.inference.tree import Group, Mission, Tree
from dvlm.values import InputError, Mode


@dataclass(frozen=True)
class Written:
    """One output file: `groups` of `of` groups are in it."""

    file: Path
    groups: int
    of: int


@dataclass(frozen=True)
class Stage:
    """Where the answers of one mission are, and what they depend on; `about` is None where they are only collected."""

    tree: Tree
    mission: Mission
    output: Path
    about: Line | None

    def clear(self, part: str, *, overwrite: bool) -> None:
        """Start anew where `overwrite` says so; else raise InputError for an output file of unknown origin."""
        journals = Journal.all_beside(self.output)
        if overwrite:
            for journal in [Journal.beside(self.output, part)] if part else journals:
                journal.path.unlink(missing_ok=True)
        elif self.output.exists() and not journals:
            raise InputError(f"{self.output} exists already; choose another output, or replace it with overwrite=true")

    def known(self) -> dict[str, str]:
        """The summaries of the journals, by image; raises InputError where they depend on other things than ours."""
        found: dict[str, str] = {}
        about, journals = self.about, Journal.all_beside(self.output)
        if about is None and not journals:
            raise InputError(f"merge: there are no answers beside {self.output}; run the shards first")
        for journal, (first, *lines) in ((each, written) for each in journals if (written := each.read())):
            about = about or first
            if first != about:
                raise InputError(
                    f"{journal.path} has answers of another {_difference(first, about)}; "
                    "choose another output, or start anew with overwrite=true"
                )
            found |= {line["image"]: line["summary"] for line in lines if line["stamp"] == self._stamp(line["image"])}
        return found

    def ask(self, engine: Engine, user: str, part: str, per_turn: int) -> dict[str, str]:
        """Ask for the images that the journals lack, `per_turn` of a group in one message; why some have no answer."""
        assert self.about is not None
        journal = Journal.beside(self.output, part)
        journal.begin(self.about)
        known = self.known()
        turns = [turn for group in self.mission.groups for turn in batched(group.images, per_turn)]
        requests = [
            Request(images=turn, mode=Mode.SUMMARY, user=user)
            for turn in turns
            if any(self._name(image) not in known for image in turn)
        ]
        failures: dict[str, str] = {}
        # Lines of a whole window are written at once: what goes on after an interruption meets the same batches.
        for replies in batched(engine.answer(requests), engine.window):
            journal.add(line for reply in replies for line in self._lines(reply, failures))
        return failures

    def write(self, failures: dict[str, str]) -> tuple[Written, list[str]]:
        """The output file, of all groups that are complete; and what is wrong with the others."""
        known, faults, done = self.known(), [], 0
        with whole(self.output, overwrite=True) as out:
            for group in self.mission.groups:
                names = [self._name(image) for image in group.images]
                lacking = [name for name in names if not known.get(name, "").strip()]
                faults += [naming(self.tree.root / name, failures.get(name, "no answer yet")) for name in lacking]
                if not lacking:
                    line = self._line(group, [known[name] for name in names])
                    out.write(json.dumps(line, ensure_ascii=False) + "\n")
                    done += 1
        return Written(self.output, done, len(self.mission.groups)), faults

    def _line(self, group: Group, summaries: list[str]) -> dict[str, Any]:
        """`per_image` has a key for each image of the largest group, "" where this one has no such image.

        So every line of every file has the same columns, all of text, whatever part of them a reader sees first.
        """
        if not self.mission.name:
            return {"image_id": group.name, "summary": summaries[0]}
        filled = summaries + [""] * (self.tree.width - len(summaries))
        return {
            "group_id": group.name,
            "mission": self.mission.name,
            "label": group.label,
            "images": [seen_from(self.output.parent, image) for image in group.images],
            "per_image": {image_key(number): summary for number, summary in enumerate(filled, 1)},
        }

    def _lines(self, reply: Reply, failures: dict[str, str]) -> Iterable[Line]:
        names = [self._name(image) for image in reply.request.images]
        try:
            summaries = reply.summaries()
        except InputError as error:
            failures |= dict.fromkeys(names, str(error))
            return
        for name, summary in zip(names, summaries, strict=True):
            yield {"image": name, "stamp": self._stamp(name), "summary": " ".join(summary.split())}

    def _name(self, image: Path) -> str:
        return image.relative_to(self.tree.root).as_posix()

    def _stamp(self, name: str) -> list[int]:
        """What tells an image from another one that takes its place."""
        try:
            found = (self.tree.root / name).stat()
        except OSError:
            return []
        return [found.st_size, found.st_mtime_ns]


def stages(tree: Tree, output: Path, about: Callable[[Mission], Line | None]) -> list[Stage]:
    """One stage a mission: `<output>/<mission>.jsonl` (`summaries.jsonl` of a plain folder), or the file `output`."""
    single = output.suffix == ".jsonl"
    if single and len(tree.missions) > 1:
        names = ", ".join(mission.name for mission in tree.missions)
        raise InputError(f"output: {output} is one file, but there are several missions ({names}); give a folder")
    return [
        Stage(tree, mission, output if single else output / f"{mission.name or 'summaries'}.jsonl", about(mission))
        for mission in tree.missions
    ]


def _difference(theirs: Line, ours: Line) -> str:
    """The first thing that two journals do not agree on."""
    key = next(key for key in [*ours, *theirs] if theirs.get(key) != ours.get(key))
    return f"{key} ({theirs.get(key)!r:.80}, now {ours.get(key)!r:.80})"
