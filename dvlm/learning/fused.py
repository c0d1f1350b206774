"""Logits, losses and their gradient in one pass over chunks of positions; the logits of all positions never exist.

A chunk of c positions is projected onto the vocabulary tile by tile, so that what follows finds each tile in the cache:

1. project: logits of student and teacher, log-sum-exp and means over tiles merged into those of the row;
2. mix (JSD only): needs both normalisers, hence a pass of its own;
3. gradient: each tile of logits becomes the gradient of the loss, and is at once multiplied back into hidden size.

Shape letters: S positions, H hidden size, V vocabulary, c positions of a chunk, v words of a tile, t tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dvlm.learning.divergence import Divergence, mix_tile


@dataclass(frozen=True)
class Recipe:
    """sum of `sft_alpha` * CE + `beta` * D; `divergence` is resolved; `chunk` positions and `tile` words at a time."""

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
    divergence: Tensor | None
    entropy: Tensor
    prediction: Tensor
    teacher_prediction: Tensor | None


class Head:
    """A head weight (V, H), and products of chunks with its tiles in the accumulation dtype."""

    def __init__(self, weight: Tensor, hidden: Tensor, recipe: Recipe, dtype: torch.dtype) -> None:
        # A GPU multiplies 16-bit operands into 32-bit results; a CPU is given 32-bit copies of a tile at a time.
        self.operand = torch.promote_types(weight.dtype, hidden.dtype) if weight.is_cuda else dtype
        self.weight, self.dtype = weight, dtype
        rows = min(recipe.chunk, len(hidden))
        self.starts = list(range(0, len(weight), recipe.tile))
        self.flat = torch.empty(rows * len(weight), dtype=dtype, device=weight.device)

    def __len__(self) -> int:
        return len(self.starts)

    def columns(self, k: int) -> slice:
        """The words of tile k."""
        stop = self.starts[k + 1] if k + 1 < len(self) else len(self.weight)
        return slice(self.starts[k], stop)

    def rows(self, k: int) -> Tensor:
        """The weight's rows of tile k, (v, H), ready to be multiplied."""
        return self.weight[self.columns(k)].to(self.operand)

    def tile(self, k: int, count: int) -> Tensor:
        """The buffer of tile k for a chunk of `count` positions, (count, v), contiguous."""
        columns = self.columns(k)
        return self.flat[count * columns.start : count * columns.stop].view(count, -1)

    def project(self, hidden: Tensor, k: int) -> Tensor:
        """The logits (c, v) of hidden states (c, H), in the buffer of tile k."""
        out = self.tile(k, len(hidden))
        multiply(hidden, self.rows(k).t(), out)
        return out


def multiply(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out = a @ b, where `out` may be wider than the operands."""
    if a.dtype == out.dtype:
        torch.mm(a, b, out=out)
    else:
        torch.mm(a, b, out_dtype=out.dtype, out=out)


def accumulate(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out += a @ b, where `out` may be wider than the operands."""
    if a.dtype == out.dtype:
        out.addmm_(a, b)
    else:
        torch.addmm(out, a, b, out_dtype=out.dtype, out=out)


class Softmax:
    """The normaliser of c rows that arrive tile by tile, and a mean under their softmax."""

    def __init__(self, tiles: int, count: int, like: Tensor) -> None:
        self.top, self.mass, self.moment = like.new_zeros((3, tiles, count)).unbind()

    def add(self, k: int, logits: Tensor, out: Tensor) -> Tensor:
        """Take tile k, (c, v); returns exp(logits - their maximum) in `out`."""
        torch.amax(logits, 1, out=self.top[k])
        torch.sub(logits, self.top[k][:, None], out=out).exp_()
        torch.sum(out, 1, out=self.mass[k])
        return out

    def log_mass(self) -> Tensor:
        """The log-sum-exp of each row, (c,)."""
        return torch.logsumexp(self.top + self.mass.log(), 0)

    def mean(self) -> Tensor:
        """The mean of what `moment` collected, sums over a tile of exp(logits - maximum) * value, (c,)."""
        return (self.moment * (self.top - self.log_mass()).exp()).sum(0)


class Chunk:
    """c positions: their statistics, then tile by tile the gradient of their loss with respect to their logits."""

    def __init__(self, recipe: Recipe, student: Head, teacher: Head | None, count: int) -> None:
        self.recipe, self.student, self.teacher, self.count = recipe, student, teacher, count
        self.cool = 1.0 / recipe.temperature
        self.plain = Softmax(len(student), count, student.flat)
        # At temperature 1 the softened student is the student.
        self.soft = self.plain if recipe.temperature == 1 else Softmax(len(student), count, student.flat)
        self.tutor = Softmax(len(student), count, student.flat)
        width = student.tile(0, count).numel()
        self.spare = student.flat.new_empty((3, width))

    def scratch(self, k: int) -> list[Tensor]:
        """Three tensors of the shape of tile k."""
        like = self.student.tile(k, self.count)
        return [flat[: like.numel()].view_as(like) for flat in self.spare]

    def measure(self, hidden: Tensor, teacher_hidden: Tensor | None, targets: Tensor) -> Stats:
        """The statistics of the chunk, from hidden states (c, H) and (c, Ht) and the words that follow, (c,)."""
        for k in range(len(self.student)):
            logits = self.student.project(hidden, k)
            exps, product, soft = self.scratch(k)
            self.plain.add(k, logits, exps)
            torch.sum(torch.mul(exps, logits, out=product), 1, out=self.plain.moment[k])
            if self.teacher is None or teacher_hidden is None:
                continue
            tutor = self.teacher.project(teacher_hidden, k).mul_(self.cool)
            if self.soft is not self.plain:
                self.soft.add(k, torch.mul(logits, self.cool, out=soft), exps)
            self._compare(k, logits, tutor, exps, product)
        self.log_mass = self.plain.log_mass()
        picked = self._gather(targets)
        entropy = self.log_mass - self.plain.mean()
        best = self._argmax(self.student, self.plain)
        if self.teacher is None:
            return Stats(self.log_mass - picked, None, entropy, best, None)
        # Before the divergence, which overwrites the teacher's logits.
        tutor_best = self._argmax(self.teacher, self.tutor)
        return Stats(self.log_mass - picked, self._diverge(self.teacher), entropy, best, tutor_best)

    def _compare(self, k: int, logits: Tensor, tutor: Tensor, exps: Tensor, product: Tensor) -> None:
        """Collect the mean log-ratio of tile k under the teacher (forward KL) or under the student (reverse KL)."""
        if self.recipe.divergence is Divergence.REVERSE_KL:
            torch.sub(tutor, logits, alpha=self.cool, out=product)
            torch.sum(exps.mul_(product), 1, out=self.tutor.moment[k])
            self.tutor.add(k, tutor, exps)
            return
        self.tutor.add(k, tutor, exps)
        if self.recipe.divergence is Divergence.FORWARD_KL:
            torch.sub(tutor, logits, alpha=self.cool, out=product)
            torch.sum(exps.mul_(product), 1, out=self.tutor.moment[k])

    def _diverge(self, teacher: Head) -> Tensor:
        """D of each position, (c,)."""
        self.soft_mass, self.tutor_mass = self.soft.log_mass(), self.tutor.log_mass()
        gap = self.soft_mass - self.tutor_mass
        match self.recipe.divergence:
            case Divergence.FORWARD_KL:
                return self.tutor.mean() + gap
            case Divergence.REVERSE_KL:
                under_student = (self.tutor.moment * (self.soft.top - self.soft_mass).exp()).sum(0)
                value = -under_student - gap
                self.shift = value + gap
                return value
            case Divergence.JSD:
                return self._mix(teacher)

    def _mix(self, teacher: Head) -> Tensor:
        """The JSD of each position, (c,); leaves log(S/M) in the teacher's tiles."""
        to_teacher = torch.zeros_like(self.soft_mass)
        to_student = torch.zeros_like(self.soft_mass)
        for k in range(len(self.student)):
            log_p, *spare = self.scratch(k)
            torch.mul(self.student.tile(k, self.count), self.cool, out=log_p).sub_(self.soft_mass[:, None])
            log_q = teacher.tile(k, self.count).sub_(self.tutor_mass[:, None])
            shares = mix_tile(log_p, log_q, self.recipe.jsd_mix, (spare[0], spare[1]))
            to_teacher += shares[0]
            to_student += shares[1]
        self.shift = to_student
        return self.recipe.jsd_mix * to_teacher + (1 - self.recipe.jsd_mix) * to_student

    def gradients(self, alpha: Tensor, targets: Tensor) -> Iterator[tuple[int, Tensor]]:
        """For each tile its gradient (c, v); `alpha` (c,) is the weight of CE at each position. Consumes the logits."""
        for k in range(len(self.student)):
            grad = self._gradient(k, alpha[:, None])
            columns = self.student.columns(k)
            inside = (targets >= columns.start) & (targets < columns.stop)
            index = torch.where(inside, targets - columns.start, 0)
            grad.scatter_add_(1, index[:, None], torch.where(inside, -alpha, 0)[:, None])
            yield k, grad

    def _gradient(self, k: int, alpha: Tensor) -> Tensor:
        """The gradient of tile k less what CE takes off at the target."""
        logits = self.student.tile(k, self.count)
        beta = self.recipe.beta * self.cool
        if self.teacher is None or not beta:
            return logits.sub_(self.log_mass[:, None]).exp_().mul_(alpha)
        tutor = self.teacher.tile(k, self.count)
        hard = None
        if self.soft is not self.plain:
            hard = torch.sub(logits, self.log_mass[:, None], out=self.scratch(k)[0]).exp_().mul_(alpha)
            alpha = torch.zeros_like(alpha)
            logits.mul_(self.cool)
        match self.recipe.divergence:
            case Divergence.FORWARD_KL:
                tutor.sub_(self.tutor_mass[:, None]).exp_()
                grad = logits.sub_(self.soft_mass[:, None]).exp_().mul_(alpha + beta).sub_(tutor, alpha=beta)
            case Divergence.REVERSE_KL:
                # p * (log p/q - D)
                ratio = torch.sub(logits, tutor, out=tutor).mul_(beta).add_(alpha - beta * self.shift[:, None])
                grad = logits.sub_(self.soft_mass[:, None]).exp_().mul_(ratio)
            case Divergence.JSD:
                # p * (log p/m - KL(S||M)) * (1 - mix)
                beta *= 1 - self.recipe.jsd_mix
                ratio = tutor.mul_(beta).add_(alpha - beta * self.shift[:, None])
                grad = logits.sub_(self.soft_mass[:, None]).exp_().mul_(ratio)
        return grad if hard is None else grad.add_(hard)

    def _gather(self, targets: Tensor) -> Tensor:
        """The logit of each target, (c,)."""
        picked = torch.zeros_like(self.log_mass)
        for k in range(len(self.student)):
            columns = self.student.columns(k)
            inside = (targets >= columns.start) & (targets < columns.stop)
            index = torch.where(inside, targets - columns.start, 0)
            picked += torch.where(inside, self.student.tile(k, self.count).gather(1, index[:, None])[:, 0], 0)
        return picked

    def _argmax(self, head: Head, softmax: Softmax) -> Tensor:
        """The likeliest word of each position, (c,): searched only in the tile that holds it."""
        winner = softmax.top.argmax(0)
        best = torch.zeros_like(winner)
        for k in winner.unique().tolist():
            mine = (winner == k).nonzero()[:, 0]
            best[mine] = head.tile(k, self.count)[mine].argmax(1) + head.starts[k]
        return best
