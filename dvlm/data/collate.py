"""Samples become a batch: laid end to end in one row, or padded on the left side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from dvlm.augmentation.steps import padding_ratio
from dvlm.data.encode import IGNORED
from dvlm.values import Batch, Sample, Telemetry


def collate(
    samples: Sequence[Sample], *, packing: bool, pad_id: int, supervised_in_step: int, pack: int, filler: bool = False
) -> Batch:
    """One micro-batch. The first token of a sample has no label: nothing of the sample predicts it.

    A `filler` has no label at all, and no telemetry: its images train nothing.
    """
    labels = [_labels(sample, filler) for sample in samples]
    text = [torch.arange(len(sample.input_ids))[None] for sample in samples]
    positions = [torch.cat([t, sample.rope]) for t, sample in zip(text, samples, strict=True)]
    rows = (
        [sample.input_ids for sample in samples],
        labels,
        [sample.mm_token_type_ids for sample in samples],
    )
    lengths = [len(sample.input_ids) for sample in samples]
    if packing:
        ids, target, types = (torch.cat(row)[None] for row in rows)
        position_ids, mask = torch.cat(positions, 1)[:, None], None
        bounds = torch.tensor([0, *lengths]).cumsum(0).int()
    else:
        width = max(lengths)
        fills = (pad_id, IGNORED, 0)
        ids, target, types = (_stack(row, width, fill) for row, fill in zip(rows, fills, strict=True))
        position_ids = torch.stack([_left(p, width, 0) for p in positions], 1)
        mask, bounds = _stack([torch.ones(n, dtype=torch.long) for n in lengths], width, 0), None
    pixels = [sample.pixel_values for sample in samples if sample.pixel_values is not None]
    grids = [sample.image_grid_thw for sample in samples if sample.image_grid_thw is not None]
    return Batch(
        input_ids=ids,
        labels=target,
        mm_token_type_ids=types,
        position_ids=position_ids,
        attention_mask=mask,
        cu_seq_lens=bounds,
        max_length=max(lengths),
        pixel_values=torch.cat(pixels) if pixels else None,
        image_grid_thw=torch.cat(grids) if grids else None,
        places=tuple(sample.turn.place for sample in samples),
        groups=tuple(_groups(sample) for sample in samples),
        telemetry=Telemetry() if filler else sum(map(_telemetry, samples), Telemetry(ids.numel(), sum(lengths))),
        supervised_in_step=supervised_in_step,
        pack=pack,
    )


def _groups(sample: Sample) -> tuple[str, ...]:
    return tuple(name for name in (sample.turn.source, sample.turn.mode) if name)


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


def _labels(sample: Sample, filler: bool) -> torch.Tensor:
    labels = torch.full_like(sample.labels, IGNORED) if filler else sample.labels.clone()
    labels[0] = IGNORED
    return labels


def _left(row: torch.Tensor, width: int, fill: int) -> torch.Tensor:
    return torch.nn.functional.pad(row, (width - row.shape[-1], 0), value=fill)


def _stack(rows: Sequence[torch.Tensor], width: int, fill: int) -> torch.Tensor:
    return torch.stack([_left(row, width, fill) for row in rows])
