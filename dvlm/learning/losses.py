"""Cross-entropy and distillation from hidden states, at the price of little more than the matrix products.

Shape letters: S supervised positions, H hidden size of the student, Ht that of the teacher, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dvlm.learning.divergence import Divergence
from dvlm.learning.fused import FusedHead, Recipe, Stats

CHUNK = 256
# Words of a tile. On a CPU a tile of logits should stay in the cache; on a GPU it should keep every core busy.
TILE = 8192
GPU_TILE = 32768


class HeadLoss(NamedTuple):
    """The loss of S positions and what is logged of them.

    `loss` is a scalar with a gradient: the sum, not the mean, of sft_alpha * CE + beta * D. Everything else is detached
    and (S,): `ce` (0 where there is none), `divergence` (None without a teacher), `entropy` of the student (nats, at
    temperature 1), `hit` (there is CE, and the target was the likeliest word), `agree` (student and teacher prefer the
    same word; None without a teacher), `has_ce`.

    A NamedTuple, since the hooks of FSDP2 and ZeRO-3 look into the tuples that a module returns, not into dataclasses.
    """

    loss: Tensor
    ce: Tensor
    divergence: Tensor | None
    entropy: Tensor
    hit: Tensor
    agree: Tensor | None
    has_ce: Tensor

    @property
    def sft_sum(self) -> Tensor:
        """Sum of CE over the positions that have it, unweighted."""
        return self.ce.sum()

    @property
    def kl_sum(self) -> Tensor | None:
        """Sum of D over all positions, unweighted."""
        return None if self.divergence is None else self.divergence.sum()

    @property
    def entropy_sum(self) -> Tensor:
        """Sum of the student's entropy over all positions."""
        return self.entropy.sum()

    @property
    def correct(self) -> Tensor:
        """How many of the positions that have CE the student got right."""
        return self.hit.sum()

    @property
    def agreement(self) -> Tensor | None:
        """At how many positions student and teacher prefer the same word."""
        return None if self.agree is None else self.agree.sum()

    @property
    def ce_count(self) -> Tensor:
        """How many positions have CE."""
        return self.has_ce.sum()

    @property
    def positions(self) -> int:
        """How many positions there are, with CE or without."""
        return len(self.ce)


class LossHead(nn.Linear):
    """An `lm_head` that can return the loss instead of logits.

    It takes the place of the model's own head, under the same name and with the same parameter, because ZeRO-3 and
    FSDP2 gather a weight only while the `forward` of the module that owns it runs.
    """

    @classmethod
    def of(cls, linear: nn.Linear) -> LossHead:
        """The same head, sharing its weight. A bias is refused: Qwen3-VL has none, and the loss would ignore it."""
        if linear.bias is not None:
            raise ValueError("the fused loss takes a head without bias; this one has a bias")
        head = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        head.weight = linear.weight
        return head.train(linear.training)

    def forward(self, hidden: Tensor, targets: Tensor | None = None, **options: Any) -> Any:  # type: ignore[override]
        """Logits (..., V) of `hidden` (..., H); with `targets` (S,) the `HeadLoss` of `hidden` (S, H).

        `options` are those of `head_loss`. Without a `teacher_weight` the teacher's head is this one.
        """
        if targets is None:
            return super().forward(hidden)
        if options.get("teacher_hidden") is not None and options.get("teacher_weight") is None:
            options["teacher_weight"] = self.weight.detach()
        return head_loss(hidden, self.weight, targets, **options)


def head_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    sft_alpha: float = 1.0,
    beta: float = 0.0,
    teacher_hidden: Tensor | None = None,
    teacher_weight: Tensor | None = None,
    divergence: Divergence = Divergence.FORWARD_KL,
    jsd_mix: float = 0.5,
    temperature: float = 1.0,
    ce_mask: Tensor | None = None,
    chunk: int = CHUNK,
) -> HeadLoss:
    """CE against `targets` (S,) and D against a teacher, from `hidden` (S, H) and the head's `weight` (V, H).

    `ce_mask` (S,) bool: False where a position has no CE (the student's own samples); None is True everywhere.
    `teacher_hidden` (S, Ht) and `teacher_weight` (V, Ht) get no gradient. `temperature` softens D only, without a
    factor of its square. Softmax and sums are in fp32 (fp64 for fp64 inputs) whatever the inputs are. `chunk` positions
    are held at a time. The gradient is computed here and now, and not at all where autograd is off. Raises ValueError
    for shapes that do not fit and numbers out of range.
    """
    _check_shapes(hidden, weight, targets, ce_mask)
    _check_teacher(hidden, weight, teacher_hidden, teacher_weight, beta)
    _check_numbers(sft_alpha, beta, jsd_mix, temperature, chunk)
    has_ce = torch.ones_like(targets, dtype=torch.bool) if ce_mask is None else ce_mask
    recipe = Recipe(
        sft_alpha=sft_alpha,
        beta=beta,
        divergence=Divergence(divergence),
        jsd_mix=jsd_mix,
        temperature=temperature,
        chunk=chunk,
        tile=TILE if weight.device.type == "cpu" else GPU_TILE,
    )
    loss, *columns = FusedHead.apply(
        hidden, weight, targets, has_ce, teacher_hidden, teacher_weight, recipe, torch.is_grad_enabled()
    )
    stats = Stats(*columns)
    return HeadLoss(
        loss=loss,
        ce=stats.ce.where(has_ce, 0),
        divergence=stats.divergence,
        entropy=stats.entropy,
        hit=(stats.prediction == targets) & has_ce,
        agree=None if stats.teacher_prediction is None else stats.prediction == stats.teacher_prediction,
        has_ce=has_ce,
    )


def _check_shapes(hidden: Tensor, weight: Tensor, targets: Tensor, ce_mask: Tensor | None) -> None:
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"expected hidden (S, H) and weight (V, H), got {_shape(hidden)} and {_shape(weight)}")
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"expected one target a position, ({len(hidden)},), got {_shape(targets)}")
    if ce_mask is not None and (ce_mask.shape != targets.shape or ce_mask.dtype != torch.bool):
        raise ValueError(f"expected ce_mask ({len(hidden)},) of bool, got {_shape(ce_mask)} of {ce_mask.dtype}")


def _check_teacher(
    hidden: Tensor, weight: Tensor, teacher_hidden: Tensor | None, teacher_weight: Tensor | None, beta: float
) -> None:
    if (teacher_hidden is None) != (teacher_weight is None):
        raise ValueError("give both teacher_hidden and teacher_weight, or neither")
    if teacher_hidden is None or teacher_weight is None:
        if beta:
            raise ValueError(f"beta {beta} weighs the divergence from a teacher, but there is no teacher_hidden")
        return
    if teacher_hidden.ndim != 2 or teacher_weight.ndim != 2 or teacher_hidden.shape[1] != teacher_weight.shape[1]:
        raise ValueError(
            f"expected teacher_hidden (S, Ht) and teacher_weight (V, Ht), "
            f"got {_shape(teacher_hidden)} and {_shape(teacher_weight)}"
        )
    if len(teacher_hidden) != len(hidden):
        raise ValueError(f"the teacher has {len(teacher_hidden)} positions, the student {len(hidden)}")
    if len(teacher_weight) != len(weight):
        raise ValueError(
            f"the teacher's vocabulary has {len(teacher_weight)} words, the student's {len(weight)}: "
            "take a teacher of the same family"
        )


def _check_numbers(sft_alpha: float, beta: float, jsd_mix: float, temperature: float, chunk: int) -> None:
    if not sft_alpha >= 0:
        raise ValueError(f"sft_alpha must be >= 0, got {sft_alpha}")
    if not beta >= 0:
        raise ValueError(f"beta, the weight of the divergence, must be >= 0, got {beta}")
    if not 0 <= jsd_mix <= 1:
        raise ValueError(f"jsd_mix must be in [0, 1], got {jsd_mix}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    if chunk < 1:
        raise ValueError(f"chunk must be >= 1, got {chunk}")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
