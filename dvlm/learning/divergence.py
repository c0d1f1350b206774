"""The divergences between teacher T and student S, computed tile by tile of the vocabulary.

Each has the same three steps. `take` sees a tile while its logits are at hand, `finish` returns D of each position once
both normalisers are known, `gradient` turns a tile into the gradient of the loss with respect to the student's logits.
In between, a tile is two tensors (c, v): `p` holds the student's probabilities within the tile, and `q` the teacher's
or whatever the gradient needs more.

Shape letters: c positions of a chunk, v words of a tile, t tiles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor

from dvlm.learning.tiles import Softmax

Tiles = Callable[[int], tuple[Tensor, ...]]


class Divergence(StrEnum):
    """How far the student is from the teacher at one position.

    `jsd` is the generalised Jensen-Shannon divergence, mix * KL(T||M) + (1 - mix) * KL(S||M) with
    M = mix * T + (1 - mix) * S. At mix 0 and 1 it would vanish: there it means the forward and the reverse KL.
    """

    FORWARD_KL = "forward_kl"
    REVERSE_KL = "reverse_kl"
    JSD = "jsd"

    def between(self, student: Softmax, teacher: Softmax, *, mix: float) -> Comparison:
        """A comparison of one chunk: of the softened student with the softened teacher."""
        if self is Divergence.FORWARD_KL or (self is Divergence.JSD and mix == 0):
            return ForwardKL(student, teacher)
        if self is Divergence.REVERSE_KL or (self is Divergence.JSD and mix == 1):
            return ReverseKL(student, teacher)
        return JensenShannon(student, teacher, mix)


class Comparison(ABC):
    """One divergence on one chunk."""

    def __init__(self, student: Softmax, teacher: Softmax) -> None:
        self.student, self.teacher = student, teacher
        self.moments = student.new_moments()

    @abstractmethod
    def take(self, k: int, p: Tensor, q: Tensor, ratio: Tensor) -> None:
        """Tile k: `ratio` (c, v) are the teacher's softened logits less the student's; it may be overwritten."""

    @abstractmethod
    def finish(self, tiles: Tiles) -> Tensor:
        """D of each position, (c,). `tiles(k)` gives p, q and three spare tensors of tile k, (c, v) each."""

    @abstractmethod
    def gradient(self, k: int, p: Tensor, q: Tensor, *, ce: Tensor, beta: float) -> Tensor:
        """ce * S + beta * dD / d(student's softened logits), (c, v), in the place of `p`; `ce` is (c, 1)."""

    def teacher_scores(self, p: Tensor, q: Tensor) -> Tensor:
        """What rises with the teacher's logits, from rows of a tile that was taken."""
        return q

    @property
    def gap(self) -> Tensor:
        """The student's log-sum-exp less the teacher's, (c,)."""
        return self.student.log_mass - self.teacher.log_mass


class ForwardKL(Comparison):
    """KL(T||S) = E_T[log T - log S], whose gradient is S - T."""

    def take(self, k: int, p: Tensor, q: Tensor, ratio: Tensor) -> None:
        torch.sum(ratio.mul_(q), 1, out=self.moments[k])

    def finish(self, tiles: Tiles) -> Tensor:
        return self.teacher.mean(self.moments) + self.gap

    def gradient(self, k: int, p: Tensor, q: Tensor, *, ce: Tensor, beta: float) -> Tensor:
        q.mul_(self.teacher.share[k, :, None] * beta)
        return p.mul_(self.student.share[k, :, None] * (ce + beta)).sub_(q)


class ReverseKL(Comparison):
    """KL(S||T) = E_S[log S - log T], whose gradient is S * (log S - log T - D)."""

    def take(self, k: int, p: Tensor, q: Tensor, ratio: Tensor) -> None:
        q.copy_(ratio)
        torch.sum(ratio.mul_(p), 1, out=self.moments[k])

    def teacher_scores(self, p: Tensor, q: Tensor) -> Tensor:
        return p.log() + q

    def finish(self, tiles: Tiles) -> Tensor:
        self.mean_ratio = self.student.mean(self.moments)
        return -self.mean_ratio - self.gap

    def gradient(self, k: int, p: Tensor, q: Tensor, *, ce: Tensor, beta: float) -> Tensor:
        # log S - log T - D: the normalisers cancel, and what is left is the mean ratio less the ratio.
        share = self.student.share[k, :, None]
        return p.mul_(q.mul_(-beta * share).add_((ce + beta * self.mean_ratio[:, None]) * share))


class JensenShannon(Comparison):
    """mix * KL(T||M) + (1 - mix) * KL(S||M), whose gradient is (1 - mix) * S * (log S - log M - KL(S||M))."""

    def __init__(self, student: Softmax, teacher: Softmax, mix: float) -> None:
        super().__init__(student, teacher)
        self.mix = mix

    def take(self, k: int, p: Tensor, q: Tensor, ratio: Tensor) -> None:
        """Nothing yet: M needs both normalisers."""

    def finish(self, tiles: Tiles) -> Tensor:
        to_teacher = torch.zeros_like(self.student.log_mass)
        self.to_student = torch.zeros_like(to_teacher)
        for k in range(len(self.moments)):
            p, q, *spare = tiles(k)
            # What is below the smallest normal number counts for nothing, but must not become 0 * inf.
            tiny = torch.finfo(p.dtype).tiny
            prob = torch.mul(p, self.student.share[k, :, None], out=spare[0])
            q.mul_(self.teacher.share[k, :, None])
            log_m = torch.lerp(prob, q, self.mix, out=spare[1]).clamp_min_(tiny).log_()
            log_q = torch.clamp_min(q, tiny, out=spare[2]).log_()
            to_teacher += log_q.sub_(log_m).mul_(q).sum(1)
            torch.clamp_min(prob, tiny, out=q).log_().sub_(log_m)
            self.to_student += prob.mul_(q).sum(1)
        return self.mix * to_teacher + (1 - self.mix) * self.to_student

    def gradient(self, k: int, p: Tensor, q: Tensor, *, ce: Tensor, beta: float) -> Tensor:
        beta *= 1 - self.mix
        share = self.student.share[k, :, None]
        return p.mul_(q.mul_(beta * share).add_((ce - beta * self.to_student[:, None]) * share))
