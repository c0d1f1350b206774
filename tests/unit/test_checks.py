"""Every health check lets the healthy pass and names what was sabotaged."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from support import small_config
from transformers import Qwen3VLForConditionalGeneration

from dvlm import assembly, checks
from dvlm.checks import HealthError
from dvlm.config import TunerConfig
from dvlm.data.datamodule import CaptionDataModule
from dvlm.models import tuning
from dvlm.models.tuning import Tuned
from dvlm.values import Batch, Sample


@pytest.fixture(scope="module")
def data() -> CaptionDataModule:
    return assembly.build_data(assembly.prepare(small_config("data.sample_limit=4", "data.max_pixels=16384")))


@pytest.fixture(scope="module")
def sample(data) -> Sample:
    return data.train_line.sample(0, 0)


@pytest.fixture
def check(data):
    tokenizer, config = data.encoder.processor.tokenizer, data.encoder.model_config
    return lambda sample: checks.check_sample(sample, tokenizer, config)


@pytest.fixture(scope="module")
def base(tiny) -> Qwen3VLForConditionalGeneration:
    return Qwen3VLForConditionalGeneration.from_pretrained(tiny)


@pytest.fixture
def tuned(base) -> Tuned:
    knobs = TunerConfig(lora_rank=4, modules_to_save=["model.visual.merger"])
    return tuning.tune(copy.deepcopy(base), knobs, seed=1)


def changed(row: torch.Tensor, index: int, value: int) -> torch.Tensor:
    out = row.clone()
    out[index] = value
    return out


def test_a_sample_as_it_is(check, sample):
    check(sample)


def sabotage(sample: Sample, what: str, config: Any) -> Sample:
    prompt = int((sample.labels != -100).nonzero()[0])
    image = int((sample.input_ids == config.image_token_id).nonzero()[0])
    match what:
        case "an extra image token":
            return replace(sample, input_ids=changed(sample.input_ids, prompt - 2, config.image_token_id))
        case "an image token lost":
            return replace(sample, input_ids=changed(sample.input_ids, image, 5))
        case "an image place lost":
            return replace(sample, input_ids=changed(sample.input_ids, image - 1, 5))
        case "a grid row lost":
            return replace(sample, image_grid_thw=sample.image_grid_thw[:-1])
        case "a row of pixels lost":
            return replace(sample, pixel_values=sample.pixel_values[:-1])
        case "no pixels":
            return replace(sample, pixel_values=None)
        case "a label on the prompt":
            labels = changed(sample.labels, prompt - 1, int(sample.input_ids[prompt - 1]))
            return replace(sample, labels=labels)
        case "the end token without a label":
            return replace(sample, labels=changed(sample.labels, -1, -100))
        case "an answer token without a label":
            return replace(sample, labels=changed(sample.labels, prompt + 3, -100))
        case "a label that is another token":
            return replace(sample, labels=changed(sample.labels, prompt, int(sample.labels[prompt]) + 1))
        case "another answer":
            return replace(sample, answer=sample.answer.replace("图片_1", "图片_3"))
    raise AssertionError(what)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("an extra image token", "image tokens, expected .* from the grids"),
        ("an image token lost", "image tokens, expected .* from the grids"),
        ("an image place lost", "2 images, but 1 image places in the prompt and 2 grids"),
        ("a grid row lost", "2 images, but 2 image places in the prompt and 1 grids"),
        ("a row of pixels lost", "rows of pixels, expected"),
        ("no pixels", "0 rows of pixels, expected"),
        ("a label on the prompt", "expected the answer"),
        ("the end token without a label", "expected the answer"),
        ("an answer token without a label", "expected the answer"),
        ("a label that is another token", "labels differ from the tokens"),
        ("another answer", "expected the answer"),
    ],
)
def test_a_sabotaged_sample(check, data, sample, what, message):
    with pytest.raises(HealthError, match=message) as error:
        check(sabotage(sample, what, data.encoder.model_config))
    assert sample.turn.place in str(error.value)


def test_the_first_samples_are_checked_before_training(data, monkeypatch):
    """The check is really made: a line whose samples are sabotaged does not pass."""
    assembly.check_samples(data)
    honest, config = type(data.train_line).sample, data.encoder.model_config
    monkeypatch.setattr(
        type(data.train_line), "sample", lambda line, *name: sabotage(honest(line, *name), "a grid row lost", config)
    )
    with pytest.raises(HealthError, match="grids"):
        assembly.check_samples(data)


def test_a_batch_has_the_labels_that_the_plan_counted(data):
    batch: Batch = data.first_batch()
    expected = data.train_plan.packs[0].supervised
    checks.check_batch(batch, expected)
    labels = batch.labels.clone()
    labels[0, (labels[0] != -100).nonzero()[0]] = -100
    with pytest.raises(HealthError, match=f"{expected - 1} supervised tokens, but the plan counted {expected}"):
        checks.check_batch(replace(batch, labels=labels), expected)


def test_adapters_as_promised(tuned):
    checks.check_tuned(tuned)


def test_an_adapter_that_is_missing(tuned):
    more = replace(tuned, targets=(*tuned.targets, "model.visual.blocks.0.attn.qkv"))
    with pytest.raises(HealthError, match=r"1 differ, such as \['model.visual.blocks.0.attn.qkv'\]"):
        checks.check_tuned(more)


def test_an_adapter_that_nobody_promised(tuned):
    with pytest.raises(HealthError, match="1 differ"):
        checks.check_tuned(replace(tuned, targets=tuned.targets[1:]))


def test_a_module_to_save_that_is_missing(tuned):
    with pytest.raises(HealthError, match="deepstack_merger_list.0"):
        checks.check_tuned(replace(tuned, saved=(*tuned.saved, "model.visual.deepstack_merger_list.0")))


@pytest.mark.parametrize("name", ["model.visual.pos_embed.weight", "model.visual.deepstack_merger_list.1.norm.bias"])
def test_a_parameter_that_should_not_train(tuned, name):
    tuned.model.get_base_model().get_parameter(name).requires_grad_(True)
    with pytest.raises(HealthError, match="1 parameters train that nobody asked for"):
        checks.check_tuned(tuned)


def test_nothing_trains(tuned, base):
    tuned.model.requires_grad_(False)
    with pytest.raises(HealthError, match="nothing trains"):
        checks.check_tuned(tuned)
    with pytest.raises(HealthError, match="nothing trains"):
        checks.check_tuned(Tuned(copy.deepcopy(base).requires_grad_(False)))


def test_vocabularies_that_differ(data):
    ours = data.encoder.processor.tokenizer
    checks.check_vocabulary(ours, copy.deepcopy(ours))
    theirs = copy.deepcopy(ours)
    theirs.add_tokens(["<|another|>"])
    with pytest.raises(HealthError, match=r"do not share a vocabulary: .* 1 differ, such as .*another"):
        checks.check_vocabulary(ours, theirs)


@pytest.mark.parametrize(("kl", "dtype"), [(0.0, "float32"), (-1e-7, "float32"), (9e-5, "float32"), (1e-2, "bfloat16")])
def test_a_divergence_at_start_that_is_rounding(kl, dtype):
    checks.check_step_zero_kl(kl, dtype)


@pytest.mark.parametrize(("kl", "dtype"), [(2e-4, "float32"), (0.05, "bfloat16"), (float("nan"), "float32")])
def test_a_divergence_at_start_that_is_not(kl, dtype):
    with pytest.raises(HealthError, match="kl_loss before the first step .* not start as its teacher"):
        checks.check_step_zero_kl(kl, dtype)


def test_gradients():
    some, none = torch.tensor([0.0, 1.0]), torch.zeros(2)
    checks.check_gradients("vit", [])
    checks.check_gradients("vit", [some, none])
    with pytest.raises(HealthError, match="vit: 1 of 2 parameters got no gradient"):
        checks.check_gradients("vit", [some, None])
    with pytest.raises(HealthError, match="vit: every gradient is zero"):
        checks.check_gradients("vit", [none, none])
    for bad in (float("nan"), float("inf")):
        with pytest.raises(HealthError, match="vit: gradients are not finite"):
            checks.check_gradients("vit", [some, torch.tensor([bad])])
