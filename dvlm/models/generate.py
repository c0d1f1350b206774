"""The one generation loop: validation pictures, rollouts and inference all come here.

Shape letters: b prompts of a batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

from dvlm import interruption
from dvlm.models import forward
from dvlm.models.forward import core
from dvlm.values import Completion, Prompt, Sample, answer_start


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """At most `max_new_tokens`; temperature 0 is greedy; `top_p` below 1 keeps the likeliest words of that mass."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0


def prompt_of(sample: Sample) -> Prompt:
    """The sample up to its last answer."""
    end = answer_start(sample.labels)
    return Prompt(sample.input_ids[:end], sample.mm_token_type_ids[:end], sample.pixel_values, sample.image_grid_thw)


def answer(model: Any, tokenizer: Any, samples: Sequence[Sample], *, max_new_tokens: int) -> list[str]:
    """Greedy answers to the prompts of `samples`, as text."""
    sampling = Sampling(max_new_tokens=max_new_tokens)
    prompts = [prompt_of(sample) for sample in samples]
    written = write(model, tokenizer, prompts, sampling=sampling, interruptible=True)
    return tokenizer.batch_decode([completion.ids for completion in written], skip_special_tokens=True)


@torch.no_grad()
def write(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    sampling: Sampling,
    draws: Sequence[np.random.Generator] = (),
    batch_size: int | None = None,
    processors: Sequence[LogitsProcessor] = (),
    interruptible: bool = False,
) -> list[Completion]:
    """Answers to `prompts`, `batch_size` at a time, padded on the left; adapters as they are at the moment.

    `draws` has one generator a prompt (none when greedy): what a prompt gets depends on it alone, not on its
    neighbours. No place of an image or a video is ever written. `processors` see the scores first.
    `interruptible` answers end at once where the process is asked to stop: whoever wants that takes none of them then.
    """
    size = batch_size or max(len(prompts), 1)
    was_training = model.training
    model.eval()
    try:
        out = []
        for start in range(0, len(prompts), size):
            here = slice(start, start + size)
            stops = [_interrupted] if interruptible else []
            out += _write(model, tokenizer, prompts[here], sampling, draws[here], processors, stops)
        return out
    finally:
        model.train(was_training)


def _write(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    draws: Sequence[np.random.Generator],
    processors: Sequence[LogitsProcessor],
    stops: Sequence[Any],
) -> list[Completion]:
    inner = core(model)
    padded = _Padded(prompts, tokenizer.pad_token_id, inner.lm_head.weight.device)
    chosen = [Barred(unwritable(inner.config, len(tokenizer)), padded.inputs["input_ids"].device), *processors]
    if sampling.temperature:
        chosen.append(Draw(sampling, draws))
    out = inner.generate(
        **padded.inputs,
        # The towers see each image once, before the first word.
        mm_encoder_outputs=forward.image_features(model, padded) or {},  # type: ignore[arg-type]
        logits_processor=LogitsProcessorList(chosen),
        stopping_criteria=StoppingCriteriaList(stops),
        max_new_tokens=sampling.max_new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return [_completion(row, tokenizer.eos_token_id) for row in out[:, padded.width :].cpu()]


def _interrupted(input_ids: Any, scores: Any, **_: Any) -> Tensor:
    return torch.full((len(input_ids),), interruption.asked(), device=input_ids.device)


def unwritable(config: Any, words: int) -> list[int]:
    """Ids that no answer may hold: places of images and videos, and what the head has beyond the `words` known."""
    places = [config.image_token_id, config.video_token_id, config.vision_start_token_id]
    return [*places, *range(words, config.text_config.vocab_size)]


def _completion(row: Tensor, end: int) -> Completion:
    """A row up to its end token; what follows is padding."""
    ends = (row == end).nonzero()
    return Completion(row[: int(ends[0]) + 1], True) if len(ends) else Completion(row, False)


class _Padded:
    """Prompts side by side, padded on the left, with the images of all of them."""

    def __init__(self, prompts: Sequence[Prompt], pad_id: int, device: torch.device) -> None:
        self.width = max(len(prompt.input_ids) for prompt in prompts)
        pixels = [prompt.pixel_values for prompt in prompts if prompt.pixel_values is not None]
        grids = [prompt.image_grid_thw for prompt in prompts if prompt.image_grid_thw is not None]
        self.pixel_values = torch.cat(pixels).to(device) if pixels else None
        self.image_grid_thw = torch.cat(grids).to(device) if grids else None
        rows = {
            "input_ids": self._stack([prompt.input_ids for prompt in prompts], pad_id),
            "attention_mask": self._stack([torch.ones_like(prompt.input_ids) for prompt in prompts], 0),
            # Without the token types generation would run with wrong positions, silently.
            "mm_token_type_ids": self._stack([prompt.mm_token_type_ids for prompt in prompts], 0),
        }
        self.inputs: dict[str, Any] = {name: row.to(device) for name, row in rows.items()}
        if self.image_grid_thw is not None:
            self.inputs["image_grid_thw"] = self.image_grid_thw

    def _stack(self, rows: Sequence[Tensor], fill: int) -> Tensor:
        return torch.stack([torch.nn.functional.pad(row, (self.width - len(row), 0), value=fill) for row in rows])


class Barred(LogitsProcessor):
    """Sets the scores of some words to -inf, in place.

    transformers' `suppress_tokens` looks for them in the whole vocabulary at each step: a quarter of a step of a small
    model.
    """

    def __init__(self, words: Sequence[int], device: torch.device) -> None:
        self.words = torch.tensor(words, device=device)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (b, V), without those words."""
        return scores.index_fill_(-1, self.words, -torch.inf)


class Draw(LogitsProcessor):
    """Draws each row's next word from that row's own random numbers, and leaves no other choice.

    By inversion, in the order of the vocabulary: a rounding of the scores moves a word only where the number drawn
    falls on its border, whatever the batch. One number a word is drawn ahead for every row.
    """

    def __init__(self, sampling: Sampling, draws: Sequence[np.random.Generator]) -> None:
        self.sampling = sampling
        self.numbers = torch.from_numpy(np.stack([draw.random(sampling.max_new_tokens) for draw in draws], 1))
        self.at = 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (b, V) that only the drawn word survives."""
        mass = torch.softmax(scores.double() / self.sampling.temperature, -1)
        if self.sampling.top_p < 1:
            mass = mass.where(nucleus(mass, self.sampling.top_p), 0)
        upto = mass.cumsum(-1)
        wanted = self.numbers[self.at].to(scores.device)[:, None] * upto[:, -1:]
        self.at += 1
        # The last word with any mass, where rounding would lead beyond it.
        last = (upto < upto[:, -1:]).sum(-1, keepdim=True)
        word = torch.searchsorted(upto, wanted, right=True).minimum(last)
        return torch.full_like(scores, -torch.inf).scatter_(-1, word, 0.0)


def nucleus(mass: Tensor, top_p: float) -> Tensor:
    """Mask (b, V) of the likeliest words whose mass together reaches `top_p`; never empty. `mass` (b, V) sums to 1."""
    ordered, order = mass.sort(stable=True, dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(mass, dtype=torch.bool).scatter_(-1, order, before < top_p)
