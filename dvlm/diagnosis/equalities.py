"""What must give the same numbers, on the user's own weights and kernels.

A difference is the mean distance of two sets of logits over the deviation of the first: about 1e-6 for rounding in
float32, 1e-2 in bfloat16, and 0.1 and more where samples see each other or positions are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dvlm.data.collate import collate
from dvlm.diagnosis.finding import Finding
from dvlm.models import forward, generate
from dvlm.models.pixels import floats
from dvlm.models.tuning import Tuned
from dvlm.values import Batch, Prompt, Sample

ROUNDING = {"float32": 1e-4, "bfloat16": 5e-2}
WORDS = 8
# Words that batching may change: in bfloat16 two words of nearly equal scores may change places.
CHANGED = {"float32": 0.0, "bfloat16": 0.25}


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A tuned model whose adapters have moved, two samples with images, and the logits that its `base` gave on each."""

    tuned: Tuned
    samples: Sequence[Sample]
    base: Sequence[Tensor]
    tokenizer: Any
    dtype: str

    @property
    def model(self) -> Any:
        """The tuned model."""
        return self.tuned.model


def batch_of(samples: Sequence[Sample], model: Any, *, packing: bool = True) -> Batch:
    """The samples as one batch, on the device of the model."""
    batch = collate(samples, packing=packing, pad_id=0, supervised_in_step=1, pack=0)
    return batch.to(forward.core(model).lm_head.weight.device)


@torch.no_grad()
def logits(model: Any, batch: Batch, images: Any = None) -> Tensor:
    """Logits (S, V) at the supervised positions, in float32."""
    given = forward.image_features(model, batch) if images is None else images
    hidden = forward.hidden_states(model, batch, given)[forward.supervised(batch)[0]]
    return forward.core(model).lm_head(hidden).float()


def apart(wanted: Tensor, found: Tensor) -> float:
    """The mean distance over the deviation of `wanted`."""
    return float((wanted - found).abs().mean() / wanted.std())


def moved(model: Any, seed: int) -> None:
    """Give every parameter that trains a step of noise, so that an adapter that is not looked at is noticed."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=draw).to(parameter)
                parameter.add_(noise, alpha=0.02)


def packed_is_separate(patient: Patient) -> Finding:
    """Samples of a pack do not see each other, and keep their positions."""
    together = logits(patient.model, batch_of(patient.samples, patient.model))
    alone = torch.cat([logits(patient.model, batch_of([sample], patient.model)) for sample in patient.samples])
    return Finding(
        name="packed = separate",
        measured=apart(alone, together),
        bound=ROUNDING[patient.dtype],
        advice="samples of a pack see each other: set data.packing=false, or model.attn_impl=sdpa; report the versions",
    )


def shared_is_plain(patient: Patient) -> Finding:
    """Vision features that are computed once and handed over give what the model makes of the pixels itself."""
    sample = patient.samples[0]
    batch = batch_of([sample], patient.model)
    given = {
        "input_ids": batch.input_ids,
        "mm_token_type_ids": batch.mm_token_type_ids,
        "pixel_values": None if batch.pixel_values is None else floats(batch.pixel_values),
        "image_grid_thw": batch.image_grid_thw,
    }
    with torch.no_grad():
        plain = forward.core(patient.model)(**given, use_cache=False).logits[forward.supervised(batch)[0]].float()
    return Finding(
        name="shared features = plain",
        measured=apart(plain, logits(patient.model, batch)),
        bound=ROUNDING[patient.dtype],
        advice="image features or positions differ from the model's own: this transformers is not supported",
    )


def off_is_base(patient: Patient) -> Finding:
    """With its adapters off the student is its base, exactly."""
    off = []
    with patient.model.disable_adapter():
        for sample in patient.samples:
            off.append(logits(patient.model, batch_of([sample], patient.model)))
    return Finding(
        name="adapters off = base",
        measured=max(apart(base, found) for base, found in zip(patient.base, off, strict=True)),
        bound=ROUNDING["float32"],
        advice="the base teacher would not be the base: name it as rlhf.teacher_model=<path>; report the versions",
    )


def merged_is_adapted(patient: Patient) -> Finding:
    """Adapters added into the weights give what they give beside them."""
    batch = batch_of(patient.samples, patient.model)
    wanted = logits(patient.model, batch)
    patient.model.merge_adapter()
    try:
        merged = logits(patient.model, batch)
    finally:
        patient.model.unmerge_adapter()
    return Finding(
        name="merged = adapted",
        measured=apart(wanted, merged),
        bound=ROUNDING[patient.dtype],
        advice="an export would be another model: keep the adapter beside its base; report tuner and versions",
    )


def batched_is_single(patient: Patient) -> Finding:
    """Answers do not depend on what stands beside a prompt in its batch."""
    prompts = _prompts(patient.samples)
    sampling = generate.Sampling(max_new_tokens=WORDS)

    def answers(size: int) -> list[list[int]]:
        done = generate.write(patient.model, patient.tokenizer, prompts, sampling=sampling, batch_size=size)
        return [completion.ids.tolist() for completion in done]

    pairs = list(zip(answers(1), answers(len(prompts)), strict=True))
    same = sum(sum(a == b for a, b in zip(one, other, strict=False)) for one, other in pairs)
    words = sum(max(len(one), len(other)) for one, other in pairs)
    return Finding(
        name="batched generation = single",
        measured=1 - same / words,
        bound=CHANGED[patient.dtype],
        advice="answers depend on their neighbours: generate with a batch of one; report the versions",
        unit="of words",
    )


def _prompts(samples: Sequence[Sample]) -> list[Prompt]:
    """Those of the samples, and the last one once more with a few words of its answer: never all of one length."""
    prompts, last = [generate.prompt_of(sample) for sample in samples], samples[-1]
    end = len(prompts[-1].input_ids) + WORDS
    begun = replace(prompts[-1], input_ids=last.input_ids[:end], mm_token_type_ids=last.mm_token_type_ids[:end])
    return [*prompts, begun]


EVERY: tuple[Callable[[Patient], Finding], ...] = (packed_is_separate, shared_is_plain, batched_is_single)
ADAPTED: tuple[Callable[[Patient], Finding], ...] = (off_is_base, merged_is_adapted)


def check(patient: Patient) -> list[Finding]:
    """All of them; those of adapters where the base is still there."""
    patient.model.eval()
    return [each(patient) for each in (*EVERY, *(ADAPTED if patient.tuned.keeps_base else ()))]
