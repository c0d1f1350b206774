"""A forward pass is the same however samples are laid out, and whichever attention computes it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from support import small_config

from dvlm import assembly
from dvlm.config import ModelConfig, TunerConfig
from dvlm.data.collate import collate
from dvlm.data.datamodule import CaptionDataModule
from dvlm.models import forward, load, tuning
from dvlm.models.pixels import floats
from dvlm.values import Batch, Sample

Collate = Callable[..., Batch]


@pytest.fixture(scope="module")
def data() -> CaptionDataModule:
    """Turns of three different lengths: two pictures, two pictures, one."""
    options = ("data.sample_limit=5", "data.max_pixels=16384", "data.packing=false")
    return assembly.build_data(assembly.prepare(small_config(*options)))


@pytest.fixture(scope="module")
def samples(data) -> list[Sample]:
    return [data.train_line.sample(0, index) for index in range(3)]


@pytest.fixture(scope="module")
def config(tiny) -> ModelConfig:
    return ModelConfig(model=str(tiny), torch_dtype="float32", max_model_len=2048)


@pytest.fixture(scope="module")
def model(config):
    """Weights four times as large, so that an error in positions or masks shows."""
    return sharpened(config)


def sharpened(config: ModelConfig, packing: bool = True):
    model = load.load_model(config, packing=packing)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed" not in name:
                parameter.mul_(4.0)
    return model


def batch(samples: list[Sample], *, packing: bool) -> Batch:
    return collate(samples, packing=packing, pad_id=0, supervised_in_step=1, pack=0)


@torch.no_grad()
def supervised_states(model, batch: Batch) -> torch.Tensor:
    mask, _ = forward.supervised(batch)
    return forward.hidden_states(model, batch, forward.image_features(model, batch))[mask]


@pytest.fixture(scope="module")
def wanted(model, samples) -> torch.Tensor:
    """Each sample on its own, through transformers' own forward."""
    rows = []
    for sample in samples:
        with torch.no_grad():
            out = model.model(
                input_ids=sample.input_ids[None],
                attention_mask=torch.ones_like(sample.input_ids)[None],
                mm_token_type_ids=sample.mm_token_type_ids[None],
                pixel_values=floats(sample.pixel_values),
                image_grid_thw=sample.image_grid_thw,
            )
        rows.append(out.last_hidden_state[0, :-1][sample.labels[1:] != -100])
    return torch.cat(rows)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_packed_and_padded_are_each_sample_alone(config, samples, wanted, impl, packing):
    model = sharpened(replace(config, attn_impl=impl), packing)
    assert wanted.std() > 0.1
    torch.testing.assert_close(supervised_states(model, batch(samples, packing=packing)), wanted, rtol=1e-3, atol=2e-4)


def test_a_pack_of_one_is_the_sample(model, samples, wanted):
    alone = supervised_states(model, batch(samples[:1], packing=True))
    torch.testing.assert_close(alone, wanted[: len(alone)], rtol=1e-3, atol=2e-4)


def test_pictures_matter(model, samples, wanted):
    blind = [replace(sample, pixel_values=torch.zeros_like(sample.pixel_values)) for sample in samples]
    assert (supervised_states(model, batch(blind, packing=True)) - wanted).abs().max() > 0.1


def test_supervised_positions_predict_the_next_token(samples):
    packed = batch(samples, packing=True)
    mask, targets = forward.supervised(packed)
    positions = mask[0].nonzero()[:, 0]
    assert torch.equal(packed.input_ids[0, positions + 1], targets)
    assert len(targets) == sum(int((sample.labels != -100).sum()) for sample in samples)


def test_text_without_pictures(model, samples):
    """A dialogue may have none."""
    text = samples[0].input_ids[-40:]
    plain = replace(
        samples[0],
        input_ids=text,
        labels=samples[0].labels[-40:],
        mm_token_type_ids=torch.zeros_like(text),
        rope=torch.arange(40).expand(3, -1),
        pixel_values=None,
        image_grid_thw=None,
    )
    mixed = batch([plain, samples[1]], packing=True)
    alone = supervised_states(model, batch([plain], packing=True))
    torch.testing.assert_close(supervised_states(model, mixed)[: len(alone)], alone, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("knobs", [{}, {"freeze_vit": False, "freeze_aligner": False}], ids=["llm", "all-towers"])
def test_gradient_checkpointing_changes_no_gradient(model, samples, knobs):
    """Also those of the vision tower's adapters, which reentrant checkpointing would lose."""
    config = TunerConfig(lora_rank=4, init_lora_weights=False, **knobs)
    tuned = tuning.tune(copy.deepcopy(model), config, seed=1).model.train()
    packed = batch(samples, packing=True)

    def gradients() -> dict[str, torch.Tensor]:
        tuned.zero_grad()
        with torch.set_grad_enabled(bool(knobs)):
            images = forward.image_features(tuned, packed)
        forward.hidden_states(tuned, packed, images).square().sum().backward()
        return {name: p.grad.clone() for name, p in tuned.named_parameters() if p.requires_grad}

    plain = gradients()
    tuned.activation_checkpointing_enable()
    assert tuned.get_base_model().model.language_model.layers[0].gradient_checkpointing
    recomputed = gradients()
    assert len(plain) == len(recomputed) > 50
    for name, gradient in plain.items():
        assert gradient.any(), name
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-6, atol=0.0)
