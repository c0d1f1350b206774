"""Where the teacher's hidden states come from: the student with its adapters off, or a frozen model of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from dvlm.models import prefix
from dvlm.models.prefix import Begun
from dvlm.values import Batch


class Teacher(Protocol):
    """Gives the teacher's side of the divergence at the supervised positions of a batch.

    It sees the whole batch, with the sources of its samples in `groups`: several models by source, as long as they
    share a head, are a teacher too.
    """

    @property
    def shares(self) -> bool:
        """Whether it goes on from what the student has begun."""
        ...

    def states(self, batch: Batch, mask: Tensor, begun: Begun) -> Tensor:
        """Hidden states (S, Ht) at `mask` (B, L). `begun`: the student's forward pass up to where it differs from its
        base's, for a teacher that may go on from there."""
        ...

    def head(self, device: torch.device) -> Tensor | None:
        """The teacher's head (V, Ht) on `device`, or None where it is the student's own."""
        ...


@dataclass(frozen=True)
class AdaptersOff:
    """The student without its adapters: no second set of weights."""

    model: Any
    shares: bool = True

    def head(self, device: torch.device) -> None:
        """The student's own."""

    @torch.no_grad()
    def states(self, batch: Batch, mask: Tensor, begun: Begun) -> Tensor:
        """Hidden states (S, H) of the base at `mask` (B, L)."""
        with self.model.disable_adapter():
            return prefix.finish(self.model, batch, begun)[mask]


@dataclass(frozen=True)
class FrozenModel:
    """A second model, of any size, with the student's vocabulary.

    `shares` where it holds the weights that the student started from; with `offload` its body waits on the CPU between
    two passes.
    """

    model: Any
    shares: bool = False
    offload: bool = False

    def head(self, device: torch.device) -> Tensor:
        """The head (V, Ht) on `device`; the body stays where it is."""
        return self.model.lm_head.to(device).weight

    @torch.no_grad()
    def states(self, batch: Batch, mask: Tensor, begun: Begun) -> Tensor:
        """Hidden states (S, Ht) of the teacher at `mask` (B, L)."""
        self.model.to(batch.input_ids.device)
        states = prefix.finish(self.model, batch, begun if self.shares else Begun())[mask]
        if self.offload:
            self.model.model.to("cpu")
        return states
