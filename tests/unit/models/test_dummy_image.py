"""A batch without images passes through the vision tower as the others do, and nothing changes by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import small_config

from dvlm import assembly
from dvlm.config import ModelConfig, TunerConfig
from dvlm.models import forward, load, towers, tuning
from dvlm.models.towers import Tower


@pytest.fixture(scope="module")
def model(tiny):
    config = ModelConfig(model=str(tiny), torch_dtype="float32", max_model_len=2048)
    return tuning.tune(
        load.load_model(config, packing=True), TunerConfig(freeze_vit=False, freeze_aligner=False), seed=1
    )


@pytest.fixture(scope="module")
def batch():
    """A pack of text alone."""
    data = assembly.build_data(assembly.prepare(small_config("data.sample_limit=2", "data.max_pixels=16384")))
    real = data.first_batch()
    ids = real.input_ids.where(real.mm_token_type_ids == 0, 5)
    types = torch.zeros_like(real.mm_token_type_ids)
    return replace(real, input_ids=ids, mm_token_type_ids=types, pixel_values=None, image_grid_thw=None)


def test_it_changes_no_bit_and_gives_the_tower_a_gradient_of_zero(model, batch):
    plain = forward.hidden_states(model.model, batch, None)
    dummy = forward.with_dummy_image(model.model, batch)
    assert dummy.dummy_image
    hidden = forward.hidden_states(model.model, dummy, forward.image_features(model.model, dummy))
    assert torch.equal(hidden, plain)
    hidden.sum().backward()
    for tower, rows in towers.parameters(model.model).items():
        gradients = [parameter.grad for _, parameter in rows if parameter.requires_grad]
        assert gradients
        assert all(gradient is not None for gradient in gradients), tower
        assert any(bool(gradient.any()) for gradient in gradients) == (tower is Tower.LLM)


def test_a_batch_with_images_stays_as_it_is(model, batch):
    dummy = forward.with_dummy_image(model.model, batch)
    assert forward.with_dummy_image(model.model, dummy) is dummy
