"""What is summed between two log lines: the tally of all tokens, that of each group of samples, and telemetry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dvlm.learning.losses import HeadLoss
from dvlm.learning.tally import Tally
from dvlm.models import forward
from dvlm.values import Batch, Telemetry


@dataclass(frozen=True)
class Meter:
    """Sums so far; an empty meter has no tally yet. Each group's row is the sums of CE, of D, and of positions."""

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
        rows = total(self.by_group) if groups else self.by_group
        for name, (ce, kl, count) in zip(groups, rows.tolist(), strict=True):
            if count:
                values[f"{prefix}/sft_loss/{name}"] = ce / count
                if f"{prefix}/kl_loss" in values:
                    values[f"{prefix}/kl_loss/{name}"] = kl / count
        return values | (self.telemetry.metrics() if prefix == "train" else {})


def _group_sums(head: HeadLoss, batch: Batch, groups: tuple[str, ...]) -> Tensor:
    """(groups, 3) float64: sums of CE and D, and the number of positions, of the samples in each group."""
    sums = torch.zeros(len(groups), 3, dtype=torch.float64, device=head.ce.device)
    if not groups:
        return sums
    samples = forward.sample_of_positions(batch)
    kl = head.ce.new_zeros(len(head.ce)) if head.divergence is None else head.divergence
    for row, name in enumerate(groups):
        member = torch.tensor([name in own for own in batch.groups], device=samples.device)[samples]
        sums[row, 0], sums[row, 1], sums[row, 2] = head.ce[member].sum(), kl[member].sum(), member.sum()
    return sums
