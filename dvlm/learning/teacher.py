"""Where the teacher's hidden states come from: the student with its adapters off, or a frozen model of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from dvlm.models import forward
from dvlm.values import Batch


class Teacher(Protocol):
    """Gives the teacher's side of the divergence at the supervised positions of a batch."""

    def states(self, batch: Batch, mask: Tensor, images: dict[str, Any] | None) -> Tensor:
        """Hidden states (S, Ht) at `mask` (B, L). `images`: the student's features where the teacher may share them."""
        ...

    @property
    def head(self) -> Tensor | None:
        """The teacher's head (V, Ht), or None where it is the student's own."""
        ...


@dataclass(frozen=True)
class AdaptersOff:
    """The student without its adapters: no second set of weights. `share` where vision is the same with them on."""

    model: Any
    share: bool
    head: None = None

    @torch.no_grad()
    def states(self, batch: Batch, mask: Tensor, images: dict[str, Any] | None) -> Tensor:
        """Hidden states (S, H) of the base at `mask` (B, L)."""
        with self.model.disable_adapter():
            shared = images if self.share else forward.image_features(self.model, batch)
            return forward.hidden_states(self.model, batch, shared)[mask]


@dataclass(frozen=True)
class FrozenModel:
    """A second model, of any size, with the student's vocabulary."""

    model: Any

    @property
    def head(self) -> Tensor:
        """The head (V, Ht)."""
        return self.model.lm_head.weight

    @torch.no_grad()
    def states(self, batch: Batch, mask: Tensor, images: dict[str, Any] | None) -> Tensor:
        """Hidden states (S, Ht) of the teacher at `mask` (B, L)."""
        self.model.to(batch.input_ids.device)
        return forward.hidden_states(self.model, batch, forward.image_features(self.model, batch))[mask]
