"""Samples become a batch: laid end to end in one row, or padded on the left side by side. And a batch samples again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dvlm.augmentation.steps import padding_ratio
from dvlm.data.digest import of_sample
from dvlm.data.encode import IGNORED
from dvlm.values import Batch, Sample, Telemetry

IMAGE = 1  # the type of an image token


@dataclass(frozen=True)
class Row:
    """What a batch keeps of one sample: tensors as in `Sample`, place, groups, and what became of its images."""

    input_ids: Tensor
    labels: Tensor
    mm_token_type_ids: Tensor
    rope: Tensor
    coordinates: Tensor
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None
    place: str
    groups: tuple[str, ...]
    telemetry: Telemetry

    @classmethod
    def of(cls, sample: Sample, *, filler: bool = False) -> Row:
        """The row of a sample; without labels for a `filler`. Nothing of the sample predicts its first token."""
        labels = torch.full_like(sample.labels, IGNORED) if filler else sample.labels.clone()
        labels[0] = IGNORED
        digits = sample.coordinates
        return cls(
            sample.input_ids,
            labels,
            sample.mm_token_type_ids,
            sample.rope,
            torch.zeros_like(labels, dtype=torch.bool) if digits is None else digits,
            sample.pixel_values,
            sample.image_grid_thw,
            sample.turn.place,
            tuple(name for name in (sample.turn.source, sample.turn.mode) if name),
            _telemetry(sample),
        )


def collate(
    samples: Sequence[Sample], *, packing: bool, pad_id: int, supervised_in_step: int, pack: int, filler: bool = False
) -> Batch:
    """One micro-batch of samples. A `filler` has no label at all, and no telemetry: its images train nothing."""
    batch = lay_out(
        [Row.of(sample, filler=filler) for sample in samples],
        packing=packing,
        pad_id=pad_id,
        supervised_in_step=supervised_in_step,
        pack=pack,
    )
    batch = replace(batch, digests=tuple(map(of_sample, samples)))
    return replace(batch, telemetry=Telemetry()) if filler else batch


def lay_out(rows: Sequence[Row], *, packing: bool, pad_id: int, supervised_in_step: int, pack: int) -> Batch:
    """One micro-batch of rows, on the device that they are on."""
    lengths = [len(row.input_ids) for row in rows]
    device = rows[0].input_ids.device
    positions = [torch.cat([torch.arange(n, device=device)[None], r.rope]) for n, r in zip(lengths, rows, strict=True)]
    columns = (
        [row.input_ids for row in rows],
        [row.labels for row in rows],
        [row.mm_token_type_ids for row in rows],
        [row.coordinates for row in rows],
    )
    if packing:
        ids, labels, types, coordinates = (torch.cat(column)[None] for column in columns)
        position_ids, mask = torch.cat(positions, 1)[:, None], None
        bounds = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    else:
        width = max(lengths)
        fills = (pad_id, IGNORED, 0, False)
        ids, labels, types, coordinates = (_stack(c, width, fill) for c, fill in zip(columns, fills, strict=True))
        position_ids = torch.stack([_left(p, width, 0) for p in positions], 1)
        mask, bounds = _stack([torch.ones(n, dtype=torch.long, device=device) for n in lengths], width, 0), None
    pixels = [row.pixel_values for row in rows if row.pixel_values is not None]
    grids = [row.image_grid_thw for row in rows if row.image_grid_thw is not None]
    return Batch(
        input_ids=ids,
        labels=labels,
        mm_token_type_ids=types,
        position_ids=position_ids,
        attention_mask=mask,
        cu_seq_lens=bounds,
        max_length=max(lengths),
        pixel_values=torch.cat(pixels) if pixels else None,
        image_grid_thw=torch.cat(grids) if grids else None,
        places=tuple(row.place for row in rows),
        groups=tuple(row.groups for row in rows),
        telemetry=sum((row.telemetry for row in rows), Telemetry(slots=ids.numel(), tokens=sum(lengths))),
        supervised_in_step=supervised_in_step,
        pack=pack,
        coordinates=coordinates,
    )


def rows_of(batch: Batch, merge: int) -> list[Row]:
    """The rows that `lay_out` made a batch of; an image token stands for `merge` x `merge` patches.

    The telemetry of all images comes with the first row.
    """
    digits = torch.zeros_like(batch.labels, dtype=torch.bool) if batch.coordinates is None else batch.coordinates
    columns = (batch.input_ids, batch.labels, batch.mm_token_type_ids, batch.position_ids[1:], digits)
    split = [_split(batch, column) for column in columns]
    seen = [replace(batch.telemetry, slots=0, tokens=0)] + [Telemetry()] * (len(batch.places) - 1)
    images = _images_of(split[2], batch, merge)
    names = zip(batch.places, batch.groups, seen, strict=True)
    return [Row(*tensors, *image, *name) for *tensors, image, name in zip(*split, images, names, strict=True)]


def _split(batch: Batch, column: Tensor) -> list[Tensor]:
    """A tensor (..., B, L) of a batch as one (..., l) a sample."""
    if batch.cu_seq_lens is not None:
        return list(column.squeeze(-2).tensor_split(batch.cu_seq_lens[1:-1].tolist(), -1))
    assert batch.attention_mask is not None
    starts = (1 - batch.attention_mask).sum(1).tolist()
    return [column[..., row, start:] for row, start in enumerate(starts)]


def _images_of(types: Sequence[Tensor], batch: Batch, merge: int) -> list[tuple[Tensor | None, Tensor | None]]:
    """The patches and grids of each sample: as many patches as its image tokens stand for."""
    if batch.pixel_values is None or batch.image_grid_thw is None:
        return [(None, None)] * len(types)
    upto = batch.image_grid_thw.prod(1).cumsum(0)
    ends = torch.stack([(row == IMAGE).sum() for row in types]).cumsum(0)[:-1] * merge**2
    pixels = batch.pixel_values.tensor_split(ends.tolist())
    grids = batch.image_grid_thw.tensor_split(torch.searchsorted(upto, ends, right=True).tolist())
    return [(p, g) if len(g) else (None, None) for p, g in zip(pixels, grids, strict=True)]


def _telemetry(sample: Sample) -> Telemetry:
    total = Telemetry()
    for record, drawn in zip(sample.turn.records, sample.drawn, strict=False):
        total += Telemetry(
            images=1,
            fill=padding_ratio(drawn, record.width, record.height),
            objects=len(record.objects.shapes) if record.objects else 0,
            kept=len(drawn.kept),
            coverage=sum(drawn.coverage),
            notes=tuple(Counter(drawn.notes).items()),
        )
    return total


def _left(row: Tensor, width: int, fill: int) -> Tensor:
    return torch.nn.functional.pad(row, (width - row.shape[-1], 0), value=fill)


def _stack(rows: Sequence[Tensor], width: int, fill: int) -> Tensor:
    return torch.stack([_left(row, width, fill) for row in rows])
