"""What one micro-batch holds, and how many of them a run has."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dvlm.values import Batch

PATCHES = 4  # of an image token: the merger joins 2 x 2


@dataclass(frozen=True, kw_only=True)
class Work:
    """A pack, or rows side by side: `samples` and `images` (tokens of each), and its supervised tokens."""

    samples: tuple[int, ...]
    images: tuple[int, ...]
    supervised: int
    packed: bool = True

    @classmethod
    def assumed(cls, tokens: int, *, sample: int, image_share: float, supervised_share: float, per_turn: int) -> Work:
        """A full row of `tokens` in samples of `sample` tokens, with `per_turn` images each."""
        count = max(1, round(tokens / sample))
        lengths = tuple(tokens // count + (n < tokens % count) for n in range(count))
        images = tuple(max(1, round(n * image_share / per_turn)) for n in lengths for _ in range(per_turn))
        return cls(samples=lengths, images=images if image_share else (), supervised=round(tokens * supervised_share))

    @classmethod
    def of(cls, batch: Batch) -> Work:
        """What a batch of the run holds; padded rows count as long as the longest."""
        rows, width = batch.input_ids.shape
        packed = batch.cu_seq_lens is not None
        samples = batch.cu_seq_lens.diff().tolist() if batch.cu_seq_lens is not None else [width] * rows
        grids = batch.image_grid_thw
        return cls(
            samples=tuple(samples),
            images=tuple((grids.prod(1) // PATCHES).tolist()) if grids is not None else (),
            supervised=max(1, int((batch.labels[:, 1:] != -100).sum())),
            packed=packed,
        )

    @property
    def tokens(self) -> int:
        """Tokens of the row."""
        return sum(self.samples)

    @property
    def patches(self) -> int:
        """Rows of `pixel_values`."""
        return PATCHES * sum(self.images)

    def of_length(self, tokens: int) -> Work:
        """The same mixture in a row of another length: samples keep their size, the last is cut."""
        share = tokens / self.tokens
        samples: list[int] = []
        images: list[int] = []
        while sum(samples) < tokens:
            samples.append(min(self.samples[len(samples) % len(self.samples)], tokens - sum(samples)))
        wanted = max(1, round(sum(self.images) * share)) if self.images else 0
        while sum(images) < wanted:
            images.append(min(self.images[len(images) % len(self.images)], wanted - sum(images)))
        return replace(
            self, samples=tuple(samples), images=tuple(images), supervised=max(1, round(self.supervised * share))
        )


@dataclass(frozen=True, kw_only=True)
class Load:
    """The work of a whole run: its largest `pack`, all its `tokens`, and its optimizer steps of `packs_per_step` packs.

    `counted`: the plan of the run was made; else the pack is an assumption.
    """

    pack: Work
    tokens: int
    packs_per_step: int
    steps: int
    counted: bool
