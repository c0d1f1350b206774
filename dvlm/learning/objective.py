"""What a batch scores: the model's forward pass, its teacher's, and the fused loss in the head."""

from __future__ import annotations

from typing import Any

import torch

from dvlm.config import RlhfConfig
from dvlm.learning.losses import HeadLoss, LossHead
from dvlm.learning.teacher import Teacher
from dvlm.models import forward, prefix
from dvlm.models.prefix import Reach
from dvlm.models.towers import HEAD
from dvlm.values import Batch


def give_loss_head(model: Any) -> None:
    """Put a head that can return the loss in the place of the model's own."""
    inner = forward.core(model)
    setattr(inner, HEAD, LossHead.of(inner.lm_head))


def score(
    model: Any, batch: Batch, teacher: Teacher | None, *, rlhf: RlhfConfig, reach: Reach, spread: bool = False
) -> HeadLoss:
    """The fused loss of a batch; with a `teacher` it holds the divergence as well.

    `reach` is what the teacher may share; `spread`: frozen weights are spread over ranks.
    """
    if spread or not reach.aligner:
        batch = forward.with_dummy_image(model, batch)
    begun = prefix.begin(model, batch, reach)
    mask, targets = forward.supervised(batch)
    # The teacher goes first: its pass inside `disable_adapter` must not come between a checkpointed pass and its
    # recomputation.
    theirs = teacher.states(batch, mask, begun) if teacher else None
    hidden = prefix.finish(model, batch, begun)[mask]
    with torch.autocast(hidden.device.type, enabled=False):
        loss: HeadLoss = forward.core(model).lm_head(
            hidden,
            targets,
            sft_alpha=rlhf.sft_alpha,
            beta=rlhf.beta if teacher else 0.0,
            teacher_hidden=theirs,
            teacher_weight=teacher.head(hidden.device) if teacher else None,
            divergence=rlhf.divergence,
            jsd_mix=rlhf.jsd_mix,
            temperature=rlhf.kd_temperature,
            ce_mask=None if batch.has_ce else torch.zeros_like(targets, dtype=torch.bool),
        )
    return loss
