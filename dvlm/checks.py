"""Health checks: what must hold before the first step, and after the first backward pass. They raise, never warn."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper

from dvlm.models import towers
from dvlm.models.tuning import Tuned
from dvlm.values import Batch, InputError, Sample

KL_TOLERANCE = 1e-4  # nats a token, in float32; bfloat16 gets the rounding of its 8 bits
KL_TOLERANCE_LOW = 2e-2


class HealthError(InputError):
    """A health check that failed: training would have gone wrong without an error."""


def check_sample(sample: Sample, tokenizer: Any, config: Any) -> None:
    """Images = placeholders = grids, rows of pixels = grid products, and only the answer is supervised."""
    place, merge = sample.turn.place, config.vision_config.spatial_merge_size**2
    grids = sample.image_grid_thw
    patches = torch.zeros(0, dtype=torch.long) if grids is None else grids.prod(1)
    placeholders = int((sample.input_ids == config.image_token_id).sum())
    images = int((sample.input_ids == config.vision_start_token_id).sum())
    if not images == len(patches) == len(sample.turn.images):
        raise HealthError(
            f"{place}: {len(sample.turn.images)} images, but {images} image places in the prompt and {len(patches)} "
            "grids; the chat template does not fit the processor"
        )
    expected = int((patches // merge).sum())
    if placeholders != expected:
        raise HealthError(f"{place}: {placeholders} image tokens, expected {expected} from the grids")
    rows = 0 if sample.pixel_values is None else len(sample.pixel_values)
    if rows != int(patches.sum()):
        raise HealthError(f"{place}: {rows} rows of pixels, expected {int(patches.sum())} from the grids")
    check_labels(sample, tokenizer)


def check_labels(sample: Sample, tokenizer: Any) -> None:
    """The supervised tokens of a sample spell its answers and their end token, and nothing else."""
    supervised = sample.labels != -100
    if not (sample.labels[supervised] == sample.input_ids[supervised]).all():
        raise HealthError(f"{sample.turn.place}: labels differ from the tokens they stand for")
    text = tokenizer.decode(sample.labels[supervised])
    end = tokenizer.eos_token
    last_answer = text.removesuffix(end).rpartition(end)[2]
    if not text.endswith(end) or last_answer != tokenizer.decode(tokenizer(sample.answer)["input_ids"]):
        raise HealthError(
            f"{sample.turn.place}: the supervised tokens spell '{text[-80:]}', expected the answer and {end}; "
            "the chat template changes the answer"
        )


def check_batch(batch: Batch, expected: int) -> None:
    """A batch supervises exactly as many tokens as the plan counted for its pack."""
    found = int((batch.labels[:, 1:] != -100).sum())
    if found != expected:
        raise HealthError(f"{', '.join(batch.places)}: {found} supervised tokens, but the plan counted {expected}")


def check_tuned(tuned: Tuned) -> None:
    """Something trains; every promised layer has its adapter, every module to save its copy; nothing else trains."""
    names = {towers.plain(name): module for name, module in tuned.model.named_modules()}
    adapted = {name for name, module in names.items() if isinstance(module, BaseTunerLayer)}
    copied = {name for name, module in names.items() if isinstance(module, ModulesToSaveWrapper)}
    if tuned.is_adapter and (adapted != set(tuned.targets) or copied != set(tuned.saved)):
        wrong = sorted(adapted ^ set(tuned.targets) | copied ^ set(tuned.saved))
        raise HealthError(
            f"the adapters are not those that the tuner promised: {len(wrong)} differ, such as {wrong[:3]}"
        )
    training = [towers.plain(name) for name, parameter in tuned.model.named_parameters() if parameter.requires_grad]
    if not training:
        raise HealthError("nothing trains: unfreeze a tower or name modules_to_save")
    if tuned.is_adapter:
        promised = tuple(f"{name}." for name in (*tuned.targets, *tuned.saved))
        stray = [name for name in training if not name.startswith(promised) and name not in tuned.biases]
        if stray:
            raise HealthError(f"{len(stray)} parameters train that nobody asked for, such as {stray[:3]}")


def check_vocabulary(student: Any, teacher: Any) -> None:
    """Teacher and student give the same meaning to every token id; both are tokenizers."""
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    if ours != theirs:
        differing = sorted(set(ours.items()) ^ set(theirs.items()))
        raise HealthError(
            f"teacher and student do not share a vocabulary: {len(ours)} and {len(theirs)} tokens, "
            f"{len(differing)} differ, such as {differing[:2]}; take a teacher of the same family"
        )


def check_template(student: Any, teacher: Any) -> None:
    """Teacher and student were taught to read the same conversation as the same text; both are processors."""
    messages = [{"role": role, "content": [{"type": "text", "text": role}]} for role in ("system", "user", "assistant")]
    ours, theirs = (each.apply_chat_template(messages, tokenize=False) for each in (student, teacher))
    if ours != theirs:
        raise HealthError(
            f"teacher and student have different chat templates: one conversation reads '{ours[:80]}' and "
            f"'{theirs[:80]}'; take a teacher of the same family"
        )


def check_step_zero_kl(kl: float, dtype: str) -> None:
    """The student starts as its teacher, so that the divergence is 0 to rounding (evaluation mode)."""
    tolerance = KL_TOLERANCE if dtype == "float32" else KL_TOLERANCE_LOW
    if not abs(kl) <= tolerance:
        raise HealthError(
            f"kl_loss before the first step is {kl:.3g}, expected 0 to rounding (at most {tolerance}): the student "
            "does not start as its teacher; check rlhf.teacher_model, the chat template, and tuner.init_lora_weights"
        )


def check_gradients(tower: str, gradients: list[torch.Tensor | None]) -> None:
    """Raise HealthError for gradients that are missing, not finite, or all zero. An empty list passes."""
    found = [gradient for gradient in gradients if gradient is not None]
    if len(found) < len(gradients):
        raise HealthError(f"{tower}: {len(gradients) - len(found)} of {len(gradients)} parameters got no gradient")
    if not all(bool(gradient.isfinite().all()) for gradient in found):
        raise HealthError(f"{tower}: gradients are not finite; lower the learning rate or look at the data")
    if found and not any(bool(gradient.any()) for gradient in found):
        raise HealthError(f"{tower}: every gradient is zero: the loss does not reach what trains; check the images")
