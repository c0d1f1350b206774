"""What is summed between two log lines: the tally of all tokens, that of each group of them, and telemetry.

Groups are the sources and modes of samples, then the digits of coordinates and all other tokens: a student that drifts
does so in its coordinates first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dvlm.learning.losses import HeadLoss
from dvlm.learning.tally import Tally
from dvlm.models import forward
from dvlm.values import Batch, Telemetry

COORD, TEXT = "coord", "text"


@dataclass(frozen=True)
class Meter:
    """Sums so far; an empty meter has no tally yet. `by_group` (groups + 2, 4) is what `_group_sums` gives."""

    tally: Tally | None = None
    by_group: Tensor | None = None
    telemetry: Telemetry = Telemetry()

    @classmethod
    def of(cls, head: HeadLoss, batch: Batch, groups: tuple[str, ...]) -> Meter:
        """The sums of one batch."""
        return cls(Tally.of(head), _group_sums(head, batch, groups), batch.telemetry)

    def __add__(self, other: Meter) -> Meter:
        if self.tally is None or self.by_group is None:
            return other
        if other.tally is None or other.by_group is None:
            return self
        return Meter(self.tally + other.tally, self.by_group + other.by_group, self.telemetry + other.telemetry)

    def metrics(self, prefix: str, total: Callable[[Tensor], Tensor], groups: tuple[str, ...]) -> dict[str, float]:
        """Everything as `{prefix}/...`, summed over ranks by `total`; telemetry is this rank's, in training."""
        if self.tally is None or self.by_group is None:
            return {}
        values = self.tally.reduced(total).metrics(prefix)
        rows = total(self.by_group).tolist()
        # Where no answer has coordinates, all of it is text.
        named = zip((*groups, COORD, TEXT), rows, strict=True) if rows[-2][-1] else zip(groups, rows[:-2], strict=True)
        for name, (ce, ce_count, kl, count) in named:
            if ce_count:
                values[f"{prefix}/sft_loss/{name}"] = ce / ce_count
            if count and f"{prefix}/kl_loss" in values:
                values[f"{prefix}/kl_loss/{name}"] = kl / count
        return values | (self.telemetry.metrics() if prefix == "train" else {})


def _group_sums(head: HeadLoss, batch: Batch, groups: tuple[str, ...]) -> Tensor:
    """(groups + 2, 4) float64, of each group's tokens: sum of CE, positions with CE, sum of D, all positions."""
    device = head.ce.device
    kl = torch.zeros_like(head.ce) if head.divergence is None else head.divergence
    columns = torch.stack([head.ce, head.has_ce, kl, torch.ones_like(head.ce)], 1).double()
    members = torch.tensor([[name in own for own in batch.groups] for name in groups], dtype=torch.bool, device=device)
    digits = forward.at_supervised(batch, batch.coordinates)[None]
    of_samples = members.view(len(groups), len(batch.groups))[:, forward.sample_of_positions(batch)]
    return torch.cat([of_samples, digits, ~digits]).double() @ columns
