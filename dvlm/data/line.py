"""The straight line of a sample, one call an arrow: (seed, epoch, index) -> Turn -> Drawn -> messages -> Sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvlm.augmentation.pipeline import Pipeline
from dvlm.augmentation.render import render
from dvlm.data import images, messages, pairing, plugins
from dvlm.data.digest import sha256
from dvlm.data.encode import Encoder
from dvlm.data.messages import Prompts
from dvlm.geometry.shapes import Shapes
from dvlm.values import Annotation, BadRecord, Dialogue, Drawn, InputError, Record, Sample, Turn, generator

MessageBuilder = Callable[[Turn, tuple[Drawn, ...], Prompts], list[dict[str, Any]]]
CHUNK = 256  # turns whose texts are tokenised in one call


@dataclass(frozen=True)
class Line:
    """Everything that turns (epoch, index) into a sample; no state, and draws from (seed, epoch, index) only."""

    parts: Sequence[Record | Dialogue]
    augmentation: Pipeline
    prompts: Prompts
    encoder: Encoder
    seed: int
    images_per_user_turn: int
    summary_ratio: float
    build: MessageBuilder = messages.build
    source: str = ""
    bad: tuple[BadRecord, ...] = ()  # left out of `parts`

    @property
    def records(self) -> int:
        """Records to choose from."""
        return len(self.parts)

    @property
    def turns(self) -> int:
        """Turns of one epoch."""
        return pairing.turn_count(len(self.parts), self.images_per_user_turn)

    def turn(self, epoch: int, index: int) -> Turn:
        """Turn `index` of `epoch`."""
        turn = pairing.pair(
            self.parts,
            epoch,
            index,
            seed=self.seed,
            per_turn=self.images_per_user_turn,
            summary_ratio=self.summary_ratio,
        )
        return replace(turn, source=self.source)

    def draw(self, turn: Turn) -> tuple[Drawn, ...]:
        """What augmentation decides for the turn's images, without their pixels."""
        if turn.dialogue is not None:
            # Its answer is free text, whose coordinates nobody can move along: its images stay as they are.
            sizes = [_located(turn, images.size, path) for path in turn.images]
            return tuple(Drawn(Annotation(width, height, Shapes.build([]), ())) for width, height in sizes)
        blank = Shapes.build([])
        annotations = [r.objects or Annotation(r.width, r.height, blank, ()) for r in turn.records]
        return self.augmentation.draw(annotations, generator(self.seed, "augment", turn.epoch, turn.index))

    def messages(self, turn: Turn, drawn: tuple[Drawn, ...]) -> list[dict[str, Any]]:
        """The turn as messages, the answer last."""
        return self.build(turn, drawn, self.prompts)

    def sample(self, epoch: int, index: int) -> Sample:
        """The encoded sample, pixels and all; raises InputError naming file and line."""
        turn = self.turn(epoch, index)
        drawn = self.draw(turn)
        pixels = [
            render(_located(turn, images.load, path), decided) for path, decided in zip(turn.images, drawn, strict=True)
        ]
        return self.encoder.encode(turn, self.messages(turn, drawn), drawn, pixels)

    def lengths(self, epoch: int, indices: Iterable[int]) -> NDArray[np.int64]:
        """(n, 2): tokens and supervised tokens of the turns at `indices`, exact, from geometry and text alone."""
        wanted = list(indices)
        chunks = [wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK)]
        return np.concatenate([self._chunk_lengths(epoch, chunk) for chunk in chunks] or [np.zeros((0, 2), np.int64)])

    def settings(self) -> dict[str, Any]:
        """All that a length depends on, as JSON: what identifies the lengths of an epoch."""
        first = self.parts[0]
        return {
            "file": sha256(first.file),
            "parts": repr(self.parts),
            "augmentation": repr(self.augmentation),
            "prompts": repr(self.prompts),
            "build": plugins.identity(self.build),
            "encoder": self.encoder.identity(),
            "turns": [self.seed, self.images_per_user_turn, self.summary_ratio],
        }

    @property
    def cacheable(self) -> bool:
        """Whether the records alone give the lengths: a dialogue says nothing of the size of its images."""
        return not isinstance(self.parts[0], Dialogue)

    def _chunk_lengths(self, epoch: int, indices: list[int]) -> NDArray[np.int64]:
        # Stage by stage, not turn by turn: code that stays in the processor's cache runs faster.
        turns = [self.turn(epoch, index) for index in indices]
        drawn = [self.draw(turn) for turn in turns]
        built = [self.messages(turn, decided) for turn, decided in zip(turns, drawn, strict=True)]
        segments = [self.encoder.segments(each) for each in built]
        sizes = [[(image.annotation.width, image.annotation.height) for image in decided] for decided in drawn]
        return self.encoder.lengths(segments, sizes)


def _located(turn: Turn, read: Any, path: Any) -> Any:
    try:
        return read(path)
    except images.ImageError as error:
        raise InputError(f"{turn.place}: images: {error}") from error
