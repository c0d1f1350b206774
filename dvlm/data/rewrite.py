"""Answers written anew: prompts out of micro-batches, and prompts with their new answers laid out again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from dvlm.data.collate import Row, lay_out, rows_of
from dvlm.data.coordinates import coordinate_tokens
from dvlm.data.encode import IGNORED
from dvlm.data.packing import fewest
from dvlm.values import Batch, Completion, Prompt, Telemetry, answer_start


@dataclass(frozen=True, kw_only=True)
class Rewriter:
    """Lays out answers as the plan does: rows of at most `max_length` tokens, or `samples_per_pack` rows side by side.

    An image token stands for `merge` x `merge` patches.
    """

    tokenizer: Any
    merge: int
    packing: bool
    samples_per_pack: int
    max_length: int

    def prompts(self, batch: Batch) -> list[Prompt]:
        """What the samples of a batch ask, up to their last answers; a filler asks nothing."""
        return [
            Prompt(row.input_ids[:end], row.mm_token_type_ids[:end], row.pixel_values, row.image_grid_thw)
            for row, end in self._asked(batch)
        ]

    def packs(self, batches: Sequence[Batch], answers: Sequence[Sequence[Completion | None]]) -> list[Batch]:
        """The prompts of each batch with their answers, in as few batches as they fit in; None leaves one out."""
        rows = [
            self._answered(row, end, answer)
            for batch, own in zip(batches, answers, strict=True)
            for (row, end), answer in zip(self._asked(batch), own, strict=True)
            if answer is not None
        ]
        if self.packing:
            lengths = np.array([len(row.input_ids) for row in rows], np.int64)
            groups = fewest(lengths, np.arange(len(rows)), self.max_length)
        else:
            size = self.samples_per_pack
            groups = [list(range(len(rows)))[start : start + size] for start in range(0, len(rows), size)]
        return [
            self._laid_out([rows[index] for index in group], batches[number % len(batches)].pack)
            for number, group in enumerate(groups)
        ]

    def empty(self, batch: Batch) -> Batch:
        """The shortest sample of a batch without its label: it trains nothing, and keeps a rank in step."""
        row = min(rows_of(batch, self.merge), key=lambda row: len(row.input_ids))
        blank = self._laid_out([replace(row, labels=torch.full_like(row.labels, IGNORED))], batch.pack)
        return replace(blank, telemetry=Telemetry())

    def _asked(self, batch: Batch) -> list[tuple[Row, int]]:
        """The rows that have an answer, and where it begins."""
        rows = [(row, answer_start(row.labels)) for row in rows_of(batch, self.merge)]
        return [(row, end) for row, end in rows if end < len(row.labels)]

    def _answered(self, row: Row, end: int, answer: Completion) -> Row:
        """The prompt of a row and the very ids of its answer, which goes on counting where the prompt stopped."""
        device = row.input_ids.device
        ids = answer.ids.to(device)
        steps = torch.arange(1, len(ids) + 1, device=device)
        digits = torch.tensor(coordinate_tokens(ids.tolist(), self.tokenizer), dtype=torch.bool, device=device)
        return replace(
            row,
            input_ids=torch.cat([row.input_ids[:end], ids]),
            labels=torch.cat([torch.full_like(row.labels[:end], IGNORED), ids]),
            mm_token_type_ids=torch.cat([row.mm_token_type_ids[:end], torch.zeros_like(ids)]),
            rope=torch.cat([row.rope[:, :end], row.rope[:, end - 1 : end] + steps], 1),
            coordinates=torch.cat([torch.zeros_like(row.coordinates[:end]), digits]),
        )

    def _laid_out(self, rows: Sequence[Row], pack: int) -> Batch:
        pad = self.tokenizer.pad_token_id
        return lay_out(rows, packing=self.packing, pad_id=pad, supervised_in_step=0, pack=pack)
