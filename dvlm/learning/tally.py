"""Sums over tokens, so that every logged metric is a sum over a sum, never a mean of means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from dvlm.learning.losses import HeadLoss


@dataclass(frozen=True)
class Tally:
    """Sums over supervised positions, each a 0-d float64 tensor; `kl` and `agree` count `kl_tokens` positions."""

    loss: Tensor
    tokens: Tensor
    sft: Tensor
    sft_tokens: Tensor
    correct: Tensor
    entropy: Tensor
    kl: Tensor
    agree: Tensor
    kl_tokens: Tensor

    @classmethod
    def zero(cls, device: torch.device) -> Tally:
        """No tokens yet."""
        return cls(*(torch.zeros((), dtype=torch.float64, device=device) for _ in fields(cls)))

    @classmethod
    def of(cls, head: HeadLoss) -> Tally:
        """The sums of one batch."""
        double = torch.float64
        zero = head.loss.detach().new_zeros((), dtype=double)
        count = zero + len(head.ce)
        return cls(
            loss=head.loss.detach().to(double),
            tokens=count,
            sft=head.sft_sum.to(double),
            sft_tokens=head.ce_count.to(double),
            correct=head.correct.to(double),
            entropy=head.entropy_sum.to(double),
            kl=zero if head.kl_sum is None else head.kl_sum.to(double),
            agree=zero if head.agreement is None else head.agreement.to(double),
            kl_tokens=zero if head.kl_sum is None else count,
        )

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def reduced(self, total: Callable[[Tensor], Tensor]) -> Tally:
        """The sums over all ranks; `total` adds a tensor up over them."""
        return Tally(*total(torch.stack([getattr(self, f.name) for f in fields(self)])).unbind())

    def metrics(self, prefix: str) -> dict[str, float]:
        """`{prefix}/loss` and so on; a term without a token has no entry. `sft_loss` and `kl_loss` are unweighted."""
        values = {f.name: float(getattr(self, f.name)) for f in fields(self)}
        out = {f"{prefix}/token_count": values["tokens"]}
        if values["tokens"]:
            out[f"{prefix}/loss"] = values["loss"] / values["tokens"]
            out[f"{prefix}/entropy"] = values["entropy"] / values["tokens"]
        if values["sft_tokens"]:
            out[f"{prefix}/sft_loss"] = values["sft"] / values["sft_tokens"]
            out[f"{prefix}/token_accuracy"] = values["correct"] / values["sft_tokens"]
        if values["kl_tokens"]:
            out[f"{prefix}/kl_loss"] = values["kl"] / values["kl_tokens"]
            out[f"{prefix}/teacher_agreement"] = values["agree"] / values["kl_tokens"]
        return out
