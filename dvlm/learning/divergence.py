"""The divergences between teacher T and student S, on tiles of softened log-probabilities.

Shape letters: c positions of a chunk, v words of a tile of the vocabulary.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor


class Divergence(StrEnum):
    """How far the student is from the teacher at one position.

    `jsd` is the generalised Jensen-Shannon divergence, mix * KL(T||M) + (1 - mix) * KL(S||M) with
    M = mix * T + (1 - mix) * S. At mix 0 and 1 it would vanish: there it means the forward and the reverse KL.
    """

    FORWARD_KL = "forward_kl"
    REVERSE_KL = "reverse_kl"
    JSD = "jsd"

    def resolve(self, jsd_mix: float) -> Divergence:
        """The divergence that is meant: `jsd` with a mix of exactly 0 or 1 is one of the full KLs."""
        if self is not Divergence.JSD or 0 < jsd_mix < 1:
            return self
        return Divergence.REVERSE_KL if jsd_mix else Divergence.FORWARD_KL


def mix_tile(log_p: Tensor, log_q: Tensor, mix: float, spare: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One tile's share of KL(T||M) and KL(S||M), each (c,), for a student `log_p` and a teacher `log_q`, each (c, v).

    Leaves log(S/M) in `log_q`, which the gradient needs, and overwrites `log_p` and `spare`, two tensors of (c, v).
    """
    log_m, prob = spare
    torch.exp(log_p, out=log_m)
    torch.exp(log_q, out=prob)
    # A word that both give less than the smallest normal number counts for nothing, but must not become 0 * inf.
    log_m.lerp_(prob, mix).clamp_min_(torch.finfo(log_m.dtype).tiny).log_()
    teacher = prob.mul_(log_q.sub_(log_m)).sum(1)
    torch.exp(log_p, out=prob)
    torch.sub(log_p, log_m, out=log_q)
    student = prob.mul_(log_q).sum(1)
    return teacher, student
