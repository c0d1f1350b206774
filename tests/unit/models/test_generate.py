"""Answers: batched and padded as alone, greedy or drawn, and nothing of the model's state is left changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import small_config

from dvlm import assembly
from dvlm.learning.losses import LossHead
from dvlm.models import generate, load
from dvlm.models.generate import Draw, Sampling
from dvlm.models.pixels import floats
from dvlm.values import answer_start, generator


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
    """Against a plain loop over forward passes of the growing prompt, over the words that an answer may hold."""
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
        barred = generate.unwritable(model.config, len(tokenizer))
        ids = torch.cat([ids, out.logits[:, -1:].index_fill(-1, torch.tensor(barred), -torch.inf).argmax(-1)], 1)
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


WARM = Sampling(max_new_tokens=12, temperature=0.9, top_p=0.95)


def drawn(model, data, indices, **options):
    """What is written for these turns, each with its own random numbers."""
    prompts = [generate.prompt_of(data.train_line.sample(0, index)) for index in indices]
    draws = [generator(17, "rollout", 0, index) for index in indices]
    options = {"sampling": WARM} | options
    return generate.write(model, data.encoder.processor.tokenizer, prompts, draws=draws, **options)


def test_what_is_drawn_depends_on_neither_neighbours_nor_batches(model, data):
    together = [completion.ids.tolist() for completion in drawn(model, data, [0, 1, 2])]
    assert together == [completion.ids.tolist() for completion in drawn(model, data, [0, 1, 2], batch_size=2)]
    assert together[::-1] == [completion.ids.tolist() for completion in drawn(model, data, [2, 1, 0])]
    greedy = drawn(model, data, [0, 1, 2], sampling=Sampling(max_new_tokens=12))
    assert together != [completion.ids.tolist() for completion in greedy]


def test_the_end_token_finishes_an_answer(model, data):
    """The head is made to prefer the end token after any but the first word."""
    tokenizer = data.encoder.processor.tokenizer
    (free,) = drawn(model, data, [0], sampling=Sampling(max_new_tokens=5))
    assert not free.finished
    assert len(free.ids) == 5

    def ends(ids, scores):
        return scores if ids.shape[1] == width else scores.index_fill(1, torch.tensor(tokenizer.eos_token_id), 1e4)

    width = len(generate.prompt_of(data.train_line.sample(0, 0)).input_ids)
    (short,) = drawn(model, data, [0], sampling=Sampling(max_new_tokens=5), processors=[ends])
    assert short.finished
    assert short.ids.tolist() == [free.ids[0].item(), tokenizer.eos_token_id]


def test_no_image_is_written_and_no_word_that_nobody_knows(model, data):
    tokenizer, config = data.encoder.processor.tokenizer, model.config
    barred = generate.unwritable(config, len(tokenizer))
    assert len(barred) == 3 + config.text_config.vocab_size - len(tokenizer)

    model.lm_head.register_forward_hook(lambda head, args, out: out.index_fill(-1, torch.tensor(barred), 100.0))
    (written,) = drawn(model, data, [0])
    assert not set(written.ids.tolist()) & set(barred)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 0.7)])
def test_words_are_drawn_as_often_as_they_should_be(temperature, top_p):
    scores = torch.tensor([2.0, -torch.inf, 0.5, 1.0, -1.0])
    rows = 20_000
    draw = Draw(
        Sampling(max_new_tokens=1, temperature=temperature, top_p=top_p),
        [generator(1, "test", 0, row) for row in range(rows)],
    )
    chosen = draw(None, scores.expand(rows, -1)).argmax(-1)
    expected = torch.softmax(scores / temperature, 0)
    if top_p < 1:
        # By hand: the likeliest words, as many as it takes to reach top_p.
        order = expected.argsort(descending=True)
        kept = order[: int((expected[order].cumsum(0) < top_p).sum()) + 1]
        assert 1 < len(kept) < 4
        expected = torch.zeros_like(expected).index_put((kept,), expected[kept])
        expected /= expected.sum()
    found = np.bincount(chosen.numpy(), minlength=5) / rows
    assert np.abs(found - expected.numpy()).max() < 0.015
    assert not found[expected.numpy() == 0].any()


def test_the_answer_of_a_dialogue_is_its_last():
    labels = torch.tensor([-100, 5, 6, -100, -100, 7, 8])
    assert answer_start(labels) == 5
    assert answer_start(torch.full((4,), -100)) == 4
