"""One forward pass of Qwen3-VL on a batch, in two halves: images once, then text as often as adapters differ."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dvlm.models.attention import NAME as PACKED_SDPA
from dvlm.models.pixels import floats
from dvlm.values import Batch


def core(model: Any) -> Any:
    """The `Qwen3VLForConditionalGeneration` inside a peft model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def image_features(model: Any, batch: Batch) -> dict[str, Any] | None:
    """What the vision tower makes of the batch's images, as `hidden_states` takes it; None without images."""
    if batch.pixel_values is None:
        return None
    inner = core(model).model
    values = pixels(inner.visual, batch)
    return {"image": inner.get_image_features(values, batch.image_grid_thw, return_dict=True)}


def pixels(visual: Any, batch: Batch) -> Tensor:
    """The patches (P, D) of a batch that has some, in the dtype of the vision tower."""
    assert batch.pixel_values is not None
    return floats(batch.pixel_values).to(next(visual.parameters()).dtype)


def with_dummy_image(model: Any, batch: Batch) -> Batch:
    """The batch with a grey image of one token that no token stands for, unless it has images.

    Where the vision tower trains or is spread over ranks, every rank must pass through it, deepstack mergers included:
    the others wait for it.
    """
    if batch.pixel_values is not None:
        return batch
    vision = core(model).config.vision_config
    side, device = vision.spatial_merge_size, batch.input_ids.device
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    return replace(
        batch,
        pixel_values=torch.full((side * side, values), 128, dtype=torch.uint8, device=device),
        image_grid_thw=torch.tensor([[1, side, side]], device=device),
        dummy_image=True,
    )


def _nothing(images: dict[str, Any]) -> Tensor:
    """0, with a gradient of 0 for whatever made the features."""
    features = images["image"]
    layers = (features.pooler_output, *features.deepstack_features)
    return torch.stack([image.sum() for layer in layers for image in layer]).sum() * 0


def hidden_states(model: Any, batch: Batch, images: dict[str, Any] | None) -> Tensor:
    """Last hidden states (B, L, H) of the language model, adapters as they are at the moment.

    A pack needs `use_cache=False` and no attention mask: with either, samples would see each other.
    """
    return run(core(model).model, batch, images)


def run(inner: Any, batch: Batch, images: dict[str, Any] | None) -> Tensor:
    """Last hidden states (B, L, H) of a `Qwen3VLModel`."""
    if images and batch.dummy_image:
        # At the input, as real features, and through the same modules in the same order: under FSDP2 and ZeRO-3 the
        # ranks agree on the order of their collectives by what has a gradient and by what is called when.
        nothing = _nothing(images)
        added = inner.get_input_embeddings().register_forward_hook(lambda module, given, out: out + nothing)
        try:
            return inner(input_ids=batch.input_ids, **layout(inner, batch)).last_hidden_state
        finally:
            added.remove()
    features = dict(images) if images else None
    return inner(input_ids=batch.input_ids, mm_encoder_outputs=features, **layout(inner, batch)).last_hidden_state


def layout(inner: Any, batch: Batch) -> dict[str, Any]:
    """How the samples of a batch lie in it, as keywords of the language model."""
    lengths: dict[str, Any] = {}
    if batch.cu_seq_lens is not None:
        bounds, longest = batch.cu_seq_lens, batch.max_length
        lengths = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}
    positions = _positions(batch, inner.config.text_config._attn_implementation)
    return {"position_ids": positions, "attention_mask": batch.attention_mask, "use_cache": False, **lengths}


def _positions(batch: Batch, attention: str) -> Tensor:
    """Text positions that start anew tell transformers to build an L x L mask, which `packed_sdpa` does not need."""
    if attention != PACKED_SDPA or batch.cu_seq_lens is None:
        return batch.position_ids
    running = torch.arange(batch.input_ids.shape[1], device=batch.position_ids.device).expand(1, 1, -1)
    return torch.cat([running, batch.position_ids[1:]])


def supervised(batch: Batch) -> tuple[Tensor, Tensor]:
    """Mask (B, L) of the positions that predict a supervised token, and those tokens (S,)."""
    targets = torch.nn.functional.pad(batch.labels[:, 1:], (0, 1), value=-100)
    mask = targets != -100
    return mask, targets[mask]


def at_supervised(batch: Batch, marks: Tensor | None) -> Tensor:
    """What `marks` (B, L) bool say of each supervised token, (S,); without marks False."""
    mask, targets = supervised(batch)
    if marks is None:
        return torch.zeros_like(targets, dtype=torch.bool)
    return torch.nn.functional.pad(marks[:, 1:], (0, 1))[mask]


def supervised_of_samples(batch: Batch, mask: Tensor) -> list[int]:
    """How many positions of `mask` (B, L) each sample has."""
    if batch.cu_seq_lens is None:
        return mask.sum(1).tolist()
    bounds = batch.cu_seq_lens.tolist()
    running = torch.nn.functional.pad(mask[0].cumsum(0), (1, 0))[bounds].tolist()
    return [after - before for before, after in itertools.pairwise(running)]


def sample_of_positions(batch: Batch) -> Tensor:
    """The number (S,) of the sample that each supervised position belongs to."""
    rows, columns = supervised(batch)[0].nonzero(as_tuple=True)
    if batch.cu_seq_lens is None:
        return rows
    return torch.bucketize(columns, batch.cu_seq_lens[1:].long(), right=True)
