"""Learning rates by tower, and the schedule that they follow in proportion."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from dvlm.config import OptimConfig, TunerConfig
from dvlm.config.optim import SchedulerKwargs
from dvlm.learning import optim
from dvlm.models import tuning
from dvlm.models.towers import Tower


def config(**knobs: object) -> OptimConfig:
    min_lr = knobs.pop("min_lr", 1e-5)
    return OptimConfig(**{"learning_rate": 1e-3, "lr_scheduler_kwargs": SchedulerKwargs(min_lr=min_lr)} | knobs)


@pytest.fixture
def model(tiny) -> torch.nn.Module:
    base = Qwen3VLForConditionalGeneration.from_pretrained(tiny)
    knobs = TunerConfig(lora_rank=4, freeze_vit=False, modules_to_save=["aligner"])
    return tuning.tune(base, knobs, seed=1).model


def test_the_schedule_at_its_corners():
    factor = optim.schedule(config(warmup_ratio=0.2), 20)
    assert [factor(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert factor(19) == pytest.approx(0.01)
    assert factor(25) == pytest.approx(0.01)
    halfway = (1 + 0.01) / 2
    assert factor(11) == pytest.approx(halfway)
    values = [factor(step) for step in range(3, 20)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(("steps", "ratio"), [(1, 0.0), (1, 0.1), (2, 0.1), (3, 0.5), (4, 1.0), (10, 0.0), (1000, 0.1)])
def test_the_last_step_ends_on_the_floor(steps, ratio):
    factor = optim.schedule(config(warmup_ratio=ratio), steps)
    assert factor(steps - 1) == pytest.approx(0.01)
    assert all(0 < factor(step) <= 1 for step in range(steps))


def test_a_floor_of_zero_and_a_floor_at_the_peak():
    assert optim.schedule(config(min_lr=0.0, warmup_ratio=0.0), 10)(9) == pytest.approx(0.0, abs=1e-12)
    flat = optim.schedule(config(min_lr=1e-3, warmup_ratio=0.0), 10)
    assert [flat(step) for step in range(10)] == pytest.approx([1.0] * 10)


def test_every_group_follows_in_proportion(model):
    settings = config(vit_lr=1e-4, aligner_lr=2e-3, warmup_ratio=0.0)
    optimizer = optim.build_optimizer(model, settings)
    scheduler = optim.build_schedule(optimizer, settings, 5)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["llm"] == pytest.approx(1e-5)
    assert rates["vit"] == pytest.approx(1e-6)
    assert rates["aligner"] == rates["aligner_no_decay"] == pytest.approx(2e-5)


def test_groups_hold_everything_that_trains_once_and_spare_vectors_from_decay(model):
    groups = optim.parameter_groups(model, config(weight_decay=0.3, vit_lr=1e-4))
    assert [group["name"] for group in groups] == ["vit", "aligner", "aligner_no_decay", "llm"]
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    for group in groups:
        vectors = group["name"].endswith("no_decay")
        assert group["weight_decay"] == (0.0 if vectors else 0.3)
        assert all((parameter.ndim <= 1) is vectors for parameter in group["params"])
    assert {group["name"]: group["lr"] for group in groups}["vit"] == 1e-4


def test_towers_without_a_rate_of_their_own_take_the_common_one():
    assert optim.tower_rates(config(aligner_lr=5e-4)) == {Tower.VIT: 1e-3, Tower.ALIGNER: 5e-4, Tower.LLM: 1e-3}


def test_the_optimizer_has_the_configured_numbers(model):
    optimizer = optim.build_optimizer(model, config(adam_beta1=0.8, adam_beta2=0.9, adam_epsilon=1e-6))
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    assert optimizer.defaults["eps"] == 1e-6
    assert math.isclose(optimizer.param_groups[-1]["lr"], 1e-3)


def test_lora_plus_has_groups_of_its_own(model):
    groups = {group["name"]: group for group in optim.parameter_groups(model, config(vit_lr=1e-4), 16.0)}
    assert groups["vit"]["lr"] == pytest.approx(1e-4)
    assert groups["vit_lora_b"]["lr"] == pytest.approx(16e-4)
    assert groups["llm_lora_b"]["lr"] == pytest.approx(16e-3)
    assert "aligner_lora_b" not in groups
    counted = sum(len(group["params"]) for group in groups.values())
    assert counted == sum(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "middle", "last"),
    [("linear", 0.5, 0.01), ("constant_with_warmup", 1.0, 1.0), ("wsd", 1.0, 0.01)],
)
def test_the_shapes_of_the_schedules(name, middle, last):
    factor = optim.schedule(config(lr_scheduler_type=name, warmup_ratio=0.2), 100)
    assert factor(9) == pytest.approx(0.5)
    assert factor(19) == pytest.approx(1.0)
    assert factor(59) == pytest.approx(middle, abs=0.02)
    assert factor(99) == pytest.approx(last)


def test_wsd_falls_over_its_share_of_the_steps():
    kwargs = SchedulerKwargs(min_lr=0.0, decay_ratio=0.25)
    factor = optim.schedule(OptimConfig(lr_scheduler_type="wsd", warmup_ratio=0.0, lr_scheduler_kwargs=kwargs), 100)
    assert [factor(step) for step in (74, 86, 99)] == pytest.approx([1.0, 0.52, 0.0])


def test_a_parameter_of_another_schedule_is_refused():
    with pytest.raises(ValueError, match="decay_ratio is for wsd, but it is linear"):
        OptimConfig(lr_scheduler_type="linear", lr_scheduler_kwargs=SchedulerKwargs(decay_ratio=0.1))
