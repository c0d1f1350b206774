"""Answers that a model writes while it trains, and the micro-batches that are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dvlm.learning.origin import Origin
from dvlm.models import generate
from dvlm.models.generate import Sampling
from dvlm.values import Batch, Completion, Prompt, generator


class Engine(Protocol):
    """Writes answers: transformers' own generation now; a server that is given the student's weights is another."""

    def write(self, prompts: Sequence[Prompt], draws: Sequence[np.random.Generator]) -> list[Completion]:
        """One answer a prompt, which depends on its own generator and not on the other prompts."""
        ...


class Layout(Protocol):
    """Takes micro-batches apart and puts them together again (`data.rewrite.Rewriter`)."""

    @property
    def max_length(self) -> int:
        """The longest row, in tokens."""
        ...

    def prompts(self, batch: Batch) -> list[Prompt]:
        """What the samples of a batch ask."""
        ...

    def packs(self, batches: Sequence[Batch], answers: Sequence[Sequence[Completion | None]]) -> list[Batch]:
        """The prompts with their answers; None leaves one out."""
        ...

    def empty(self, batch: Batch) -> Batch:
        """A batch that trains nothing."""
        ...


@dataclass(frozen=True)
class TransformersEngine:
    """`model` writes, by transformers' generation loop; without its adapters where `adapters` is False."""

    model: Any
    tokenizer: Any
    sampling: Sampling
    batch_size: int
    adapters: bool = True

    def write(self, prompts: Sequence[Prompt], draws: Sequence[np.random.Generator]) -> list[Completion]:
        """Answers, `batch_size` prompts at a time."""
        if not prompts:
            return []
        self.model.to(prompts[0].input_ids.device)
        options: dict[str, Any] = {"sampling": self.sampling, "draws": draws, "batch_size": self.batch_size}
        if self.adapters:
            return generate.write(self.model, self.tokenizer, prompts, **options)
        with self.model.disable_adapter():
            return generate.write(self.model, self.tokenizer, prompts, **options)


@dataclass(frozen=True)
class Written:
    """What became of a step on one rank: its new micro-batches, and sums over its completions, (4,) float64:
    completions, their tokens, how many are truncated, how many are empty."""

    batches: list[Batch]
    sums: Tensor


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Replaces the answers of a step by those that an engine writes.

    An answer that would reach beyond the layout's longest row, or that its engine did not finish, is truncated: it has
    no end token, and none is supervised. An empty answer is nothing but the end token: the student's own is kept, since
    the teacher's opinion of it is what it must hear; a teacher's is left out, since silence is not to be learned.
    """

    engines: Mapping[Origin, Engine]
    layout: Layout
    seed: int

    def rewrite(self, batches: Sequence[Batch], origin: Origin) -> Written:
        """The micro-batches of this rank's part of a step, with answers by `origin`; none where nothing is left."""
        prompts = [self.layout.prompts(batch) for batch in batches]
        draws = [
            generator(self.seed, "rollout", batch.pack, number)
            for batch, own in zip(batches, prompts, strict=True)
            for number in range(len(own))
        ]
        flat = [prompt for own in prompts for prompt in own]
        written = self.engines[origin].write(flat, draws)
        cut = [self._cut(answer, len(prompt.input_ids)) for prompt, answer in zip(flat, written, strict=True)]
        kept = iter(answer if _says(answer, origin) else None for answer in cut)
        answers = [[next(kept) for _ in own] for own in prompts]
        return Written(self.layout.packs(batches, answers), _sums(cut))

    def _cut(self, answer: Completion, prompt: int) -> Completion:
        room = self.layout.max_length - prompt
        return answer if len(answer.ids) <= room else Completion(answer.ids[:room], False)


def _length(answer: Completion) -> int:
    """Tokens without the end token."""
    return len(answer.ids) - answer.finished


def _says(answer: Completion, origin: Origin) -> bool:
    """Whether there is anything to learn from an answer."""
    return bool(_length(answer) or (origin is Origin.STUDENT and len(answer.ids)))


def _sums(answers: Sequence[Completion]) -> Tensor:
    rows = [[1, _length(answer), not answer.finished, not _length(answer)] for answer in answers]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4).sum(0)
