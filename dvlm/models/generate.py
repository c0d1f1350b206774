"""The one generation loop: validation pictures, and every later use, all come here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dvlm.models.forward import core
from dvlm.models.pixels import floats
from dvlm.values import Sample


@torch.no_grad()
def answer(model: Any, tokenizer: Any, samples: Sequence[Sample], *, max_new_tokens: int) -> list[str]:
    """Greedy answers to the prompts of `samples`, batched, padded on the left; adapters as they are at the moment."""
    was_training = model.training
    model.eval()
    try:
        prompts = [_prompt_length(sample) for sample in samples]
        device = next(core(model).parameters()).device
        batch = _prompts(samples, prompts, tokenizer.pad_token_id)
        inputs = {name: tensor.to(device) for name, tensor in batch.items()}
        if "pixel_values" in inputs:
            inputs["pixel_values"] = floats(inputs["pixel_values"])
        out = core(model).generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    finally:
        model.train(was_training)
    return tokenizer.batch_decode(out[:, max(prompts) :], skip_special_tokens=True)


def _prompt_length(sample: Sample) -> int:
    return int((sample.labels != -100).long().argmax())


def _prompts(samples: Sequence[Sample], lengths: Sequence[int], pad_id: int) -> dict[str, Tensor]:
    width = max(lengths)

    def left(row: Tensor, length: int, fill: int) -> Tensor:
        return torch.nn.functional.pad(row[:length], (width - length, 0), value=fill)

    pairs = list(zip(samples, lengths, strict=True))
    batch = {
        "input_ids": torch.stack([left(s.input_ids, n, pad_id) for s, n in pairs]),
        "attention_mask": torch.stack([left(torch.ones_like(s.input_ids), n, 0) for s, n in pairs]),
        # Without the token types generation would run with wrong positions, silently.
        "mm_token_type_ids": torch.stack([left(s.mm_token_type_ids, n, 0) for s, n in pairs]),
    }
    pixels = [sample.pixel_values for sample in samples if sample.pixel_values is not None]
    grids = [sample.image_grid_thw for sample in samples if sample.image_grid_thw is not None]
    return batch | ({"pixel_values": torch.cat(pixels), "image_grid_thw": torch.cat(grids)} if pixels else {})
