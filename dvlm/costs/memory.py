"""Bytes on one GPU, by what a strategy spreads over the ranks."""

from __future__ import annotations

from dataclasses import dataclass

STRATEGIES = ("ddp", "zero2", "zero3", "fsdp")
WORD = 4  # what trains is kept in float32, and so are its gradients and the two moments of Adam
BUCKET = 50_000_000  # numbers that ZeRO collects before it reduces or gathers them


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What a run holds, in bytes but for the two counts.

    `weights` of the student (what trains included), `teacher` weights of a second model, `trainable` parameters,
    `largest` bytes of the largest unit that is gathered at once (a layer, or the head), `activations` of a micro-batch.
    """

    weights: int
    teacher: int
    trainable: int
    largest: int
    activations: int

    @property
    def gradients(self) -> int:
        """Bytes of gradients."""
        return WORD * self.trainable

    @property
    def optimizer(self) -> int:
        """Bytes of Adam's two moments (Kingma and Ba 2015)."""
        return 2 * WORD * self.trainable

    def per_gpu(self, strategy: str, ranks: int) -> int:
        """Peak bytes on one of `ranks` GPUs. W weights, G gradients, O optimizer, A activations, k ranks:

        ddp: W + G + O + A, whatever k. zero2: W + (G + O + master copy of what trains) / k + a bucket + A, where the
        bucket replaces the gradients that are not reduced yet (Rajbhandari et al. 2020, section 5: P_os+g). zero3 and
        fsdp: (W + G + O) / k + twice the largest unit, which is gathered while the next one is on its way, + A (there:
        P_os+g+p; Zhao et al. 2023). A second model as teacher is whole on every GPU.

        The optimizer step comes after the activations are gone, and needs room of its own, as much as what it trains on
        this rank.
        """
        whole = ranks == 1 or strategy == "ddp"
        rest = self.teacher + max(self.activations, self.gradients if whole else self.gradients // ranks)
        state = self.gradients + self.optimizer
        if whole:
            return self.weights + state + rest
        if strategy == "zero2":
            bucket = WORD * min(BUCKET, self.trainable)
            return self.weights + (state + self.gradients) // ranks + bucket + rest
        return (self.weights + state) // ranks + 2 * self.largest + rest
