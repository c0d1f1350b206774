"""An epoch in numbers: lengths, packs, images, objects, and what augmentation does, from geometry and text alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvlm.config import DataConfig
from dvlm.data import plan as planning
from dvlm.data.mixture import Source
from dvlm.data.plan import Plan
from dvlm.gallery.words import events
from dvlm.geometry.shapes import Kind
from dvlm.values import Drawn, Mode, Turn

WHOLE = 0.995  # an object that shows less of itself is cut


@dataclass(frozen=True)
class Objects:
    """The objects of the dense turns, by type: `found` in the records, `kept` by (type, kind) in the answers.

    `cut` is the number of kept objects that the canvas cuts.
    """

    found: Counter[str]
    kept: Counter[tuple[str, Kind]]
    cut: int


@dataclass(frozen=True, eq=False)
class Survey:
    """One epoch. `lengths` (turns, 2): tokens and supervised tokens; `image_tokens` (turns,): those of images.

    `packed` and `padded` are plans of this epoch alone, `padded` with micro-batches of `rows` samples; `packing` says
    which of them the configuration asks for. `events` counts the images to which something happens.
    """

    records: int
    max_length: int
    packing: bool
    lengths: NDArray[np.int64]
    image_tokens: NDArray[np.int64]
    packed: Plan
    padded: Plan
    rows: int
    modes: Counter[str]
    sources: Counter[str]
    images: int
    events: Counter[str]
    objects: Objects

    @property
    def too_long(self) -> NDArray[np.int64]:
        """The turns that are longer than `max_length`."""
        return np.flatnonzero(self.lengths[:, 0] > self.max_length)

    @property
    def packs_per_step(self) -> int:
        """Packs of an optimizer step."""
        return self.packed.packs_per_step

    @property
    def statistics(self) -> dict[str, float]:
        """The statistics of the plan that the configuration asks for."""
        return (self.packed if self.packing else self.padded).statistics(self.max_length)

    @property
    def packed_statistics(self) -> dict[str, float]:
        """The statistics of the packed plan."""
        return self.packed.statistics(self.max_length)

    @property
    def image_share(self) -> float:
        """The share of tokens that stand for images, among the turns that fit."""
        fits = self.lengths[:, 0] <= self.max_length
        return float(self.image_tokens[fits].sum() / self.lengths[fits, 0].sum())

    @property
    def padded_share(self) -> float:
        """The share of padded rows, each as long as the longest of its micro-batch, that holds a token."""
        groups = [[index for _, index in pack.samples] for pack in self.padded.packs if not pack.filler]
        tokens = [self.lengths[group, 0] for group in groups]
        return sum(int(row.sum()) for row in tokens) / sum(len(row) * int(row.max()) for row in tokens)


def survey(line: Source, epoch: int, lengths: planning.Lengths, data: DataConfig, max_length: int) -> Survey:
    """Count `epoch` of `line`, whose turns have these lengths (turns, 2).

    Raises InputError if not one of them fits `max_length`.
    """
    packed = _plan(line, lengths, data, max_length, packing=True, rows=1)
    real = [pack for pack in packed.packs if not pack.filler]
    # The fair comparison: micro-batches of as many samples as a pack holds on average.
    rows = round(sum(len(pack.samples) for pack in real) / len(real)) if data.packing else data.samples_per_pack
    tally = _Tally()
    for index in range(line.turns):
        turn = line.turn(epoch, index)
        tally.add(line, turn, line.draw(turn))
    return Survey(
        records=line.records,
        max_length=max_length,
        packing=data.packing,
        lengths=lengths,
        image_tokens=np.array(tally.image_tokens, np.int64),
        packed=packed,
        padded=_plan(line, lengths, data, max_length, packing=False, rows=rows),
        rows=rows,
        modes=tally.modes,
        sources=tally.sources,
        images=tally.images,
        events=tally.events,
        objects=Objects(tally.found, tally.kept, tally.cut),
    )


class _Tally:
    """Counts turn by turn, so that an epoch never lies in memory as a whole."""

    def __init__(self) -> None:
        self.modes, self.sources, self.events = Counter[str](), Counter[str](), Counter[str]()
        self.found, self.kept = Counter[str](), Counter[tuple[str, Kind]]()
        self.image_tokens: list[int] = []
        self.images = self.cut = 0

    def add(self, line: Source, turn: Turn, drawn: tuple[Drawn, ...]) -> None:
        """Count one turn."""
        sizes = [(image.annotation.width, image.annotation.height) for image in drawn]
        self.image_tokens.append(sum(line.encoder.image_tokens(sizes)))
        self.modes[mode_name(turn)] += 1
        self.sources[turn.source] += 1
        self.images += len(drawn)
        if turn.dialogue is not None:
            return  # its images stay as they are
        for record, image in zip(turn.records, drawn, strict=True):
            self.events.update({event.name for event in events(image, record.width, record.height)})
            if turn.mode is Mode.DENSE and record.objects is not None:
                self._add_objects(record.objects.descs, image)

    def _add_objects(self, descs: tuple[str, ...], image: Drawn) -> None:
        types = [type_name(desc) for desc in descs]
        kinds = map(Kind, image.annotation.shapes.kinds.tolist())
        self.found.update(types)
        self.kept.update((types[index], kind) for index, kind in zip(image.kept, kinds, strict=True))
        self.cut += sum(cover < WHOLE for cover in image.coverage)


def mode_name(turn: Turn) -> str:
    """The mode of a turn, or `dialogue`."""
    return turn.mode.value if turn.mode else "dialogue"


def type_name(desc: str) -> str:
    """The type of an object: the first part of its description."""
    return desc.split("/")[0]


def _plan(
    line: Source, lengths: planning.Lengths, data: DataConfig, max_length: int, *, packing: bool, rows: int
) -> Plan:
    """A plan of the turns that fit."""
    return planning.build(
        [lengths],
        seed=line.seed,
        max_length=max_length,
        packing=packing,
        samples_per_pack=rows,
        packs_per_step=data.packs_per_step,
        truncation="drop",
        place=lambda epoch, index: line.turn(epoch, index).place,
    )
