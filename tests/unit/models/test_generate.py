"""Greedy answers: batched and padded as alone, and nothing of the model's state is left changed."""

from __future__ import annotations

import pytest
import torch
from support import small_config

from dvlm import assembly
from dvlm.learning.losses import LossHead
from dvlm.models import generate, load
from dvlm.models.pixels import floats


@pytest.fixture(scope="module")
def config():
    return assembly.prepare(small_config("data.sample_limit=5", "data.max_pixels=16384"))


@pytest.fixture(scope="module")
def data(config):
    return assembly.build_data(config)


@pytest.fixture
def model(config):
    model = load.load_model(config.model, packing=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed" not in name:
                parameter.mul_(4.0)
    return model


def test_a_batch_answers_as_each_sample_alone(model, data):
    tokenizer = data.encoder.processor.tokenizer
    samples = [data.train_line.sample(0, index) for index in range(3)]
    assert len({len(sample.input_ids) for sample in samples}) == 3
    together = generate.answer(model, tokenizer, samples, max_new_tokens=12)
    alone = [generate.answer(model, tokenizer, [sample], max_new_tokens=12)[0] for sample in samples]
    assert together == alone
    assert len(set(alone)) > 1


def test_greedy_answers_are_the_likeliest_tokens(model, data):
    """Against a plain loop over forward passes of the growing prompt."""
    tokenizer, sample = data.encoder.processor.tokenizer, data.train_line.sample(0, 0)
    prompt = int((sample.labels != -100).nonzero()[0])
    ids, types = sample.input_ids[None, :prompt], sample.mm_token_type_ids[None, :prompt]
    for _ in range(5):
        with torch.no_grad():
            out = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=types,
                pixel_values=floats(sample.pixel_values),
                image_grid_thw=sample.image_grid_thw,
                use_cache=False,
            )
        ids = torch.cat([ids, out.logits[:, -1:].argmax(-1)], 1)
        types = torch.cat([types, types.new_zeros(1, 1)], 1)
    expected = tokenizer.decode(ids[0, prompt:], skip_special_tokens=True)
    assert generate.answer(model, tokenizer, [sample], max_new_tokens=5) == [expected]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_comes_back_and_nothing_is_drawn(model, data, training):
    model.lm_head = LossHead.of(model.lm_head)
    model.train(training)
    state = torch.get_rng_state()
    generate.answer(model, data.encoder.processor.tokenizer, [data.train_line.sample(0, 0)], max_new_tokens=2)
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), state)
