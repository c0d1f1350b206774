"""The frozen values that pass between the stages of DESIGN section 3.

records -> pairing -> Turn -> draw -> Drawn[] -> messages -> encode -> Sample -> collate -> Batch -> losses

Shape letters: B rows of a batch, L tokens of a row, I images, P patches (rows of `pixel_values`), D values of a patch,
S supervised positions, H hidden size, V vocabulary, k shapes, n points.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvlm.geometry.shapes import Shapes

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


class Mode(StrEnum):
    """What a turn asks for: objects with geometry, or one line of text an image."""

    DENSE = "dense"
    SUMMARY = "summary"


@dataclass(frozen=True)
class Annotation:
    """What is known of one image without its pixels: size in pixels, shapes, one description a shape."""

    width: int
    height: int
    shapes: Shapes
    descs: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """One JSONL line. `objects` is None where the line has none (then only summary mode can use it)."""

    file: Path
    line: int
    image: Path
    width: int
    height: int
    objects: Annotation | None
    summary: str | None

    @property
    def place(self) -> str:
        """`file:line`, for errors."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Dialogue:
    """One JSONL line in messages form: a turn of its own. `messages` are normalised content lists."""

    file: Path
    line: int
    images: tuple[Path, ...]
    messages: tuple[dict[str, Any], ...]

    @property
    def place(self) -> str:
        """`file:line`, for errors."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class BadRecord:
    """A line that is left out of training, and all that is wrong with it."""

    file: Path
    line: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Turn:
    """What one sample shows: records of one mode, or one dialogue. Named by (epoch, index)."""

    epoch: int
    index: int
    mode: Mode | None
    records: tuple[Record, ...]
    dialogue: Dialogue | None = None
    source: str = ""

    @property
    def place(self) -> str:
        """Every `file:line` of the turn, for errors."""
        parts = [self.dialogue] if self.dialogue else self.records
        return ", ".join(part.place for part in parts)

    @property
    def images(self) -> tuple[Path, ...]:
        """The files of the turn's images, in order."""
        return self.dialogue.images if self.dialogue else tuple(record.image for record in self.records)


@dataclass(frozen=True)
class Drawn:
    """What augmentation decided for one image, without a pixel.

    `annotation` is the outcome (its size is that of the rendered image), `steps` is what render does to the pixels,
    `kept` the indices of the input's shapes that are left, `coverage` the share of each kept shape inside the canvas,
    `notes` counts events such as `random_crop.skipped.line`.
    """

    annotation: Annotation
    steps: tuple[Any, ...] = ()
    kept: tuple[int, ...] = ()
    coverage: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A turn after encoding: one row without padding.

    `input_ids`, `labels`, `mm_token_type_ids` (L,); `rope` (3, L) M-RoPE positions; `pixel_values` (P, D) uint8,
    which `models.pixels` normalises; `image_grid_thw` (I, 3); `answer` and `drawn` are kept for pictures and metrics.
    `coordinates` (L,) bool marks the supervised tokens that are digits of coordinates; None stands for no such token.
    """

    turn: Turn
    input_ids: Tensor
    labels: Tensor
    mm_token_type_ids: Tensor
    rope: Tensor
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None
    drawn: tuple[Drawn, ...]
    answer: str
    coordinates: Tensor | None = None


def answer_start(labels: Tensor) -> int:
    """Where the last supervised stretch of `labels` (L,) begins; L where nothing is supervised."""
    supervised = labels != -100
    starts = (supervised[1:] & ~supervised[:-1]).nonzero()
    return int(starts[-1]) + 1 if len(starts) else len(labels)


@dataclass(frozen=True)
class Prompt:
    """What a model is asked, ready to be answered: one row without padding, up to where the answer begins.

    `input_ids`, `mm_token_type_ids` (L,); `pixel_values` (P, D) uint8; `image_grid_thw` (I, 3).
    """

    input_ids: Tensor
    mm_token_type_ids: Tensor
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None


@dataclass(frozen=True)
class Completion:
    """What a model wrote: `ids` (n,) on the CPU, the end token the last of them where it `finished`."""

    ids: Tensor
    finished: bool


@dataclass(frozen=True)
class Telemetry:
    """Sums over the images of a batch: what augmentation made of them, and how much of the batch is padding.

    `fill` sums each image's share of filled pixels, `coverage` the visible share of each kept object, `notes` counts
    events such as `random_crop.skipped.line`.
    """

    slots: int = 0
    tokens: int = 0
    images: int = 0
    fill: float = 0.0
    objects: int = 0
    kept: int = 0
    coverage: float = 0.0
    notes: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: Telemetry) -> Telemetry:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "notes"}
        names = sorted({name for name, _ in self.notes + other.notes})
        ours, theirs = dict(self.notes), dict(other.notes)
        return Telemetry(**sums, notes=tuple((name, ours.get(name, 0) + theirs.get(name, 0)) for name in names))

    def metrics(self) -> dict[str, float]:
        """`data/padding_ratio` and so on; what has nothing to count has no entry."""
        out: dict[str, float] = {f"data/{name}": count for name, count in self.notes}
        if self.slots:
            out["data/padding_ratio"] = 1 - self.tokens / self.slots
        if self.images:
            out["data/fill_ratio"] = self.fill / self.images
        if self.objects:
            out["data/kept_objects"] = self.kept / self.objects
        if self.kept:
            out["data/coverage"] = self.coverage / self.kept
        return out


@dataclass(frozen=True)
class Batch:
    """One micro-batch: a pack laid end to end in one row, or padded rows.

    `input_ids`, `labels`, `mm_token_type_ids` (B, L); `position_ids` (4, B, L), text positions first;
    `attention_mask` (B, L) for padded rows, None for a pack; `cu_seq_lens` (samples + 1,) int32 for a pack, else None;
    `max_length` the longest sample; `pixel_values` (P, D) uint8; `image_grid_thw` (I, 3); `places` one `file:line` list
    a sample; `groups` the names under which a sample's losses are logged apart; `supervised_in_step` the supervised
    tokens of the whole optimizer step, over ranks and micro-batches; `pack` the number of the pack in the plan.
    `coordinates` (B, L) bool marks the digits of coordinates (None: nobody knows); `has_ce` is False for what the
    student wrote itself: it is compared with the teacher only; `digests` tell each sample's content from any other's
    (empty: nobody will ask for them again); `dummy_image` where the pixels are those of an image that no token stands
    for.
    """

    input_ids: Tensor
    labels: Tensor
    mm_token_type_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None
    cu_seq_lens: Tensor | None
    max_length: int
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None
    places: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    telemetry: Telemetry
    supervised_in_step: int
    pack: int
    coordinates: Tensor | None = None
    has_ce: bool = True
    digests: tuple[str, ...] = ()
    dummy_image: bool = False

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with every tensor on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in pinned memory: torch's DataLoader calls this."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move: Any) -> Batch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if hasattr(getattr(self, f.name), "pin_memory")}
        return replace(self, **{name: move(tensor) for name, tensor in tensors.items()})


def generator(seed: int, stream: str, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one choice: a pure function of its arguments, whatever the order of calls.

    `stream` names the choice (`pairing`, `mode`, `augment`, ...), so that two choices of one turn are independent.
    """
    import numpy

    return numpy.random.default_rng([seed, int.from_bytes(stream.encode(), "big"), epoch, index])


class InputError(ValueError):
    """What a user can mend: a bad record, file, or setting. Verbs print its message without a traceback."""


def printable(text: str) -> str:
    """The text on one line, without control characters: these are shown as escapes.

    >>> printable("a" + chr(10) + "b")
    'a\\nb'
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
