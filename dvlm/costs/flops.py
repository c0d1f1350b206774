"""What a teacher adds to the operations of a step, and how long operations take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """What the teacher of GKD adds to SFT, as a share of the FLOPs of SFT.

    `cold`: its whole forward pass. `shared`: without what the student hands over (vision, lower layers). `cached`: its
    hidden states are read from a cache, and only its head is run.
    """

    cold: float
    shared: float
    cached: float


def overhead(sft: int, whole: tuple[int, int, int], shared: tuple[int, int, int]) -> Overhead:
    """From the FLOPs of SFT, and those of the teacher's vision, language model and head without and with sharing."""
    return Overhead(cold=sum(whole) / sft, shared=sum(shared) / sft, cached=whole[2] / sft)


def duration(flops: float, *, gpus: int, peak: float, mfu: float) -> float:
    """Seconds for `flops` on `gpus` of `peak` FLOP/s each at the model FLOPs utilisation `mfu` (Chowdhery et al. 2022,
    appendix B). Recomputed activations are not part of the model's FLOPs and must not be counted in."""
    return flops / (gpus * peak * mfu)
