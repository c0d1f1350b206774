"""Loss and gradient in one pass over chunks of positions: the logits of all positions never exist.

A chunk of c positions is taken through the vocabulary tile by tile, so that each step finds its tile in the cache:
`Chunk.measure` turns both hidden states into probabilities within the tile and into statistics of the position, and
`Chunk.gradients` turns these into the gradient of the logits, which is at once multiplied back into hidden size.

Shape letters: S positions, H hidden size of the student, Ht of the teacher, V vocabulary, c, v (see `tiles.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dvlm.learning.divergence import Divergence
from dvlm.learning.tiles import Head, Softmax, accumulate, multiply


@dataclass(frozen=True)
class Recipe:
    """sum of `sft_alpha` * CE + `beta` * D, by `chunk` positions and `tile` words at a time."""

    sft_alpha: float
    beta: float
    divergence: Divergence
    jsd_mix: float
    temperature: float
    chunk: int
    tile: int


class Stats(NamedTuple):
    """What is known of each position, (S,) each; the teacher's are None without a teacher."""

    ce: Tensor
    entropy: Tensor
    prediction: Tensor
    divergence: Tensor | None
    teacher_prediction: Tensor | None


class FusedHead(torch.autograd.Function):
    """Computes loss and gradient in `forward`; `backward` only scales by the gradient that comes in."""

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
        """The loss and the `Stats`; no gradient unless `wanted`. Targets without CE may be anything."""
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        rows = _balanced(len(hidden), recipe.chunk)
        cut = partial(Head, dtype=dtype, rows=rows, words=recipe.tile)
        student, teacher = cut(weight, hidden=hidden.dtype), None
        if teacher_hidden is not None and teacher_weight is not None:
            teacher = cut(teacher_weight, hidden=teacher_hidden.dtype)
        grads = [
            torch.zeros_like(tensor, dtype=dtype) if wanted and needed else None
            for tensor, needed in zip((hidden, weight), ctx.needs_input_grad[:2], strict=True)
        ]
        spare = student.spare(3)
        alpha = recipe.sft_alpha * has_ce.to(dtype)
        ids = torch.where(has_ce, targets, 0)
        parts = []
        # Without a position there is still one chunk, of none, so that everything has its shape.
        for start in range(0, max(len(hidden), 1), rows):
            here = slice(start, start + rows)
            states = hidden[here].to(student.operand)
            other = teacher_hidden[here].to(teacher.operand) if teacher and teacher_hidden is not None else None
            chunk = Chunk(recipe, student, teacher, spare, len(states))
            parts.append(chunk.measure(states, other, ids[here]))
            if grads == [None, None]:
                continue
            for k, grad in chunk.gradients(alpha[here], ids[here]):
                grad = grad.to(student.operand)
                if grads[0] is not None:
                    accumulate(grad, student.rows(k), grads[0][here])
                if grads[1] is not None:
                    accumulate(grad.t(), states, grads[1][student.words(k)])
        stats = Stats._make(None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(*grads)
        ctx.dtypes = hidden.dtype, weight.dtype
        ctx.mark_non_differentiable(*(stat for stat in stats if stat is not None))
        loss = (alpha * stats.ce).sum()
        if stats.divergence is not None:
            loss = loss + recipe.beta * stats.divergence.sum()
        return loss, *stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """`scale` times the gradients that `forward` left."""
        grads = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        scaled = (None if grad is None else (grad * scale).to(dtype) for grad, dtype in grads)
        return *scaled, None, None, None, None, None, None


def _balanced(positions: int, chunk: int) -> int:
    """At most `chunk` positions at a time, and no small rest: products of few rows are slow."""
    return -(-positions // -(-positions // chunk)) if positions else 1


class Chunk:
    """c positions: first their statistics, then the gradient of their loss. `spare` is `Head.spare(3)`."""

    def __init__(self, recipe: Recipe, student: Head, teacher: Head | None, spare: Tensor, count: int) -> None:
        self.recipe, self.student, self.teacher, self.count = recipe, student, teacher, count
        self.cool = 1.0 / recipe.temperature
        self.spare = spare
        first = student.tile(0, count)
        self.plain, self.soft, self.tutor = (Softmax(len(student), count, first) for _ in range(3))
        if recipe.temperature == 1:
            self.soft = self.plain
        self.comparison = recipe.divergence.between(self.soft, self.tutor, mix=recipe.jsd_mix) if teacher else None

    def tiles(self, k: int) -> tuple[Tensor, ...]:
        """The kept tiles k of student and teacher (the student's again where there is none), then three spare ones."""
        p = self.student.tile(k, self.count)
        q = self.teacher.tile(k, self.count) if self.teacher else p
        return p, q, *(flat[: p.numel()].view_as(p) for flat in self.spare)

    def measure(self, states: Tensor, other: Tensor | None, targets: Tensor) -> Stats:
        """The statistics of the chunk, from hidden states (c, H), the teacher's (c, Ht) and the targets (c,)."""
        picked = self.spare.new_zeros(self.count)
        moments = self.plain.new_moments()
        for k in range(len(self.student)):
            p, _, logits, _, product = self.tiles(k)
            multiply(states, self.student.rows(k).t(), logits)
            self.plain.add(k, logits, p)
            torch.sum(torch.mul(p, logits, out=product), 1, out=moments[k])
            inside, column = _place(targets, self.student.words(k))
            picked += torch.where(inside, logits.gather(1, column)[:, 0], 0)
            if other is not None:
                self._compare(k, other)
        self.plain.finish()
        ce, entropy = self.plain.log_mass - picked, self.plain.log_mass - self.plain.mean(moments)
        starts = self.student.starts
        best = self.plain.likeliest(lambda k, rows: self.tiles(k)[0][rows], starts)
        comparison = self.comparison
        if comparison is None:
            return Stats(ce, entropy, best, None, None)
        self.soft.finish()
        self.tutor.finish()
        tutor_best = self.tutor.likeliest(
            lambda k, rows: comparison.teacher_scores(*(tile[rows] for tile in self.tiles(k)[:2])), starts
        )
        return Stats(ce, entropy, best, comparison.finish(self.tiles), tutor_best)

    def _compare(self, k: int, other: Tensor) -> None:
        """Let the teacher's hidden states (c, Ht) follow the student's tile k, whose logits are the first spare one."""
        assert self.teacher is not None
        assert self.comparison is not None
        p, q, logits, tutor, product = self.tiles(k)
        multiply(other, self.teacher.rows(k).t(), tutor)
        if self.soft is not self.plain:
            self.soft.add(k, torch.mul(logits, self.cool, out=product), p)
            tutor.mul_(self.cool)
        self.tutor.add(k, tutor, q)
        self.comparison.take(k, p, q, tutor.sub_(logits, alpha=self.cool))

    def gradients(self, alpha: Tensor, targets: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Tile by tile the gradient (c, v) of the logits; CE weighs `alpha` (c,). Consumes what `measure` left."""
        for k in range(len(self.student)):
            grad = self._gradient(k, alpha[:, None])
            inside, column = _place(targets, self.student.words(k))
            yield k, grad.scatter_add_(1, column, torch.where(inside, -alpha, 0)[:, None])

    def _gradient(self, k: int, alpha: Tensor) -> Tensor:
        """The gradient of tile k but for what CE takes off at the target; `alpha` is (c, 1)."""
        p, q, hard, *_ = self.tiles(k)
        if self.comparison is None:
            return p.mul_(self.plain.share[k, :, None] * alpha)
        beta = self.recipe.beta * self.cool
        if self.soft is self.plain:
            return self.comparison.gradient(k, p, q, ce=alpha, beta=beta)
        # The probabilities at temperature 1 are a power of the softened ones.
        scale = self.recipe.temperature * self.soft.tile_mass[k] - self.plain.log_mass
        torch.log(p, out=hard).mul_(self.recipe.temperature).add_(scale[:, None]).exp_().mul_(alpha)
        return self.comparison.gradient(k, p, q, ce=torch.zeros_like(alpha), beta=beta).add_(hard)


def _place(targets: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Which targets (c,) are among these words, and their column there, (c, 1); 0 for the others."""
    inside = (targets >= words.start) & (targets < words.stop)
    return inside, torch.where(inside, targets - words.start, 0)[:, None]
