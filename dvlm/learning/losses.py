"""Cross-entropy and distillation from hidden states, at the price of little more than the matrix products.

Shape letters: S supervised positions, H hidden size of the student, Ht that of the teacher, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dvlm.learning.divergence import Divergence
from dvlm.learning.fused import Chunk, Head, Recipe, Stats, accumulate

CHUNK = 128
# Words of a tile: what stays in a CPU's cache. A GPU takes the vocabulary at once, to launch fewer kernels.
TILE = 4096


class HeadLoss(NamedTuple):
    """The loss of S positions and what is logged of them.

    `loss` is a scalar with a gradient: the sum, not the mean, of sft_alpha * CE + beta * D. Everything else is detached
    and (S,): `ce`, `divergence` (None without a teacher), `entropy` of the student (nats, at temperature 1), `hit` (the
    target was the likeliest word), `agree` (with the teacher's likeliest word; None without a teacher), `has_ce`.
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
        return (self.ce * self.has_ce).sum()

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
        return (self.hit & self.has_ce).sum()

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
        divergence=Divergence(divergence).resolve(jsd_mix),
        jsd_mix=jsd_mix,
        temperature=temperature,
        chunk=chunk,
        tile=TILE if weight.device.type == "cpu" else len(weight),
    )
    loss, *stats = _FusedHead.apply(
        hidden, weight, targets, has_ce, teacher_hidden, teacher_weight, recipe, torch.is_grad_enabled()
    )
    ce, kl, entropy, prediction, teacher_prediction = stats
    agree = None if teacher_prediction is None else prediction == teacher_prediction
    return HeadLoss(loss, ce, kl, entropy, prediction == targets, agree, has_ce)


class _FusedHead(torch.autograd.Function):
    """Loss and gradient in `forward`; `backward` only scales by the gradient that comes in."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        has_ce: Tensor,
        teacher_hidden: Tensor | None,
        teacher_weight: Tensor | None,
        recipe: Recipe,
        wanted: bool,
    ) -> tuple[Tensor | None, ...]:
        dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        ctx.dtypes = hidden.dtype, weight.dtype
        grads = [
            torch.zeros_like(tensor, dtype=dtype) if wanted and needed else None
            for tensor, needed in zip((hidden, weight), ctx.needs_input_grad[:2], strict=True)
        ]
        student = Head(weight, hidden, recipe, dtype)
        teacher = None
        if teacher_weight is not None and teacher_hidden is not None:
            teacher = Head(teacher_weight, teacher_hidden, recipe, dtype)
        alpha = recipe.sft_alpha * has_ce.to(dtype)
        ids = torch.where(has_ce, targets, 0)
        parts: list[Stats] = []
        for start in range(0, len(hidden), recipe.chunk):
            rows = slice(start, start + recipe.chunk)
            own = hidden[rows].to(student.operand)
            other = teacher_hidden[rows].to(teacher.operand) if teacher else None
            chunk = Chunk(recipe, student, teacher, len(own))
            parts.append(chunk.measure(own, other, ids[rows]))
            if grads[0] is None and grads[1] is None:
                continue
            for k, tile in chunk.gradients(alpha[rows], ids[rows]):
                tile = tile.to(student.operand)
                if grads[0] is not None:
                    accumulate(tile, student.rows(k), grads[0][rows])
                if grads[1] is not None:
                    accumulate(tile.t(), own, grads[1][student.columns(k)])
        stats = _join(parts, alpha, ids, teacher is not None)
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(*(stat for stat in stats if stat is not None))
        loss = (alpha * stats.ce).sum()
        if stats.divergence is not None:
            loss = loss + recipe.beta * stats.divergence.sum()
        return loss, *stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        grads = [
            None if grad is None else (grad * scale).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return *grads, None, None, None, None, None, None


def _join(parts: list[Stats], number: Tensor, ids: Tensor, teacher: bool) -> Stats:
    """The statistics of all chunks, end to end; of none, five empty tensors like `number` and `ids`."""
    if parts:
        return Stats(*(None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)))
    return (
        Stats(*(number.new_empty(0) if i < 3 else ids.new_empty(0) for i in range(5)))
        if teacher
        else Stats(number.new_empty(0), None, number.new_empty(0), ids.new_empty(0), None)
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
