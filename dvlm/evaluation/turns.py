"""Validation turns answered by an engine, and what each image adds to the scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee

from dvlm.data.line import Line
from dvlm.geometry.shapes import Shapes
from dvlm.inference.asking import Request
from dvlm.inference.engine import Engine, Reply
from dvlm.metrics.sums import Sums, dense, summary
from dvlm.values import Annotation, InputError, Mode, Turn


@dataclass(frozen=True)
class Answered:
    """A turn and its reply. `told` holds the objects of each image, or `summaries` theirs; `error` says why not.

    What cannot be read counts as an answer that tells nothing.
    """

    turn: Turn
    reply: Reply
    told: tuple[Annotation, ...]
    summaries: tuple[str, ...]
    error: str | None

    @property
    def truth(self) -> list[Annotation]:
        """The true objects of each image, in its own pixels."""
        return [record.objects or _nothing(record.width, record.height) for record in self.turn.records]

    def sums(self) -> list[Sums]:
        """What each image adds to the scores; the first carries the count of the answer."""
        if self.turn.mode is Mode.DENSE:
            images = [dense(told, truth) for told, truth in zip(self.told, self.truth, strict=True)]
        else:
            truth = [record.summary or "" for record in self.turn.records]
            images = [summary(told, true) for told, true in zip(self.summaries, truth, strict=True)]
        count = {"answers": 1.0, "failures": float(self.error is not None), "truncated": float(not self.reply.finished)}
        return [images[0] | count, *images[1:]]


def turns(line: Line, limit: int | None) -> list[Turn]:
    """The first `limit` validation turns, as epoch 0 pairs them; raises InputError for dialogues."""
    chosen = [line.turn(0, index) for index in range(min(line.turns, limit or line.turns))]
    for turn in chosen:
        if turn.dialogue is not None:
            raise InputError(f"{turn.place}: only records can be scored, this line is a dialogue; set generate=false")
    return chosen


def answered(engine: Engine, chosen: Iterable[Turn]) -> Iterator[Answered]:
    """Each turn with its answer, in order."""
    first, second = tee(chosen)
    for turn, reply in zip(first, engine.answer(_request(turn) for turn in second), strict=True):
        yield read(turn, reply, engine)


def read(turn: Turn, reply: Reply, engine: Engine) -> Answered:
    """A reply read back, in pixels of the records."""
    blank = tuple(_nothing(record.width, record.height) for record in turn.records)
    empty = ("",) * len(turn.records)
    try:
        if turn.mode is Mode.DENSE:
            return Answered(turn, reply, tuple(reply.objects(engine.prompts)), empty, None)
        return Answered(turn, reply, blank, tuple(reply.summaries()), None)
    except InputError as error:
        return Answered(turn, reply, blank, empty, str(error))


def box_pairs(found: Sequence[Answered]) -> list[tuple[Annotation, Annotation]]:
    """(told, true) of each image in dense mode, for average precision."""
    dense_turns = [each for each in found if each.turn.mode is Mode.DENSE]
    return [pair for each in dense_turns for pair in zip(each.told, each.truth, strict=True)]


def _request(turn: Turn) -> Request:
    assert turn.mode is not None
    return Request(images=turn.images, mode=turn.mode)


def _nothing(width: int, height: int) -> Annotation:
    return Annotation(width, height, Shapes.build([]), ())
