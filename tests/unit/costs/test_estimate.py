"""The figures of a run: published sizes, arithmetic of strategies, and the command on the tiny model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from support import CACHE

from dvlm.config import EstimateConfig, ModelConfig, keys
from dvlm.config.compose import compose
from dvlm.costs import estimate as figures
from dvlm.costs import meta
from dvlm.costs.memory import STRATEGIES, Holdings
from dvlm.costs.step import untouched
from dvlm.costs.work import Work
from dvlm.estimate import estimate, load_of, report
from dvlm.models import load, towers, tuning
from dvlm.models.prefix import Reach
from dvlm.models.towers import Tower

SIZES = {"2B": 2_127_532_032, "4B": 4_437_815_808, "8B": 8_767_123_696}
TINY = (f"cache_dir={CACHE}", "data.demo.train=24", "data.demo.val=6", "data.max_pixels=36864", "tuner.lora_rank=8")


def skeleton(size: str):
    config = ModelConfig(model=f"Qwen/Qwen3-VL-{size}-Instruct", max_model_len=4096)
    return meta.skeleton(config, packing=True)


@pytest.mark.parametrize(("size", "expected"), SIZES.items())
def test_parameters_are_the_published_ones(size, expected):
    assert sum(p.numel() for p in skeleton(size).parameters()) == expected


def test_the_towers_and_adapters_of_4b():
    model = skeleton("4B")
    counts = {tower: sum(p.numel() for _, p in rows) for tower, rows in towers.parameters(model).items()}
    assert counts == {Tower.VIT: 306_242_560, Tower.ALIGNER: 109_105_152, Tower.LLM: 4_022_468_096}
    tuned = tuning.tune(model, compose("train", ["model=qwen3_vl_4b"]).tuner, seed=17)
    assert len(tuned.targets) == 252
    assert sum(p.numel() for p in tuned.model.parameters() if p.requires_grad) == 66_060_288
    assert figures.on_disk(tuned) == 252 * 2**20
    assert untouched(tuned.model, Reach.of(tuned.model)) == 0


def test_what_a_strategy_spreads():
    holdings = Holdings(weights=800, teacher=0, trainable=10, largest=50, activations=100)
    assert {s: holdings.per_gpu(s, 1) for s in STRATEGIES} == dict.fromkeys(STRATEGIES, 800 + 40 + 80 + 100)
    assert holdings.per_gpu("ddp", 8) == 1020
    assert holdings.per_gpu("zero2", 4) == 800 + (40 + 80 + 40) // 4 + 40 + 100
    assert holdings.per_gpu("zero3", 4) == holdings.per_gpu("fsdp", 4) == (800 + 120) // 4 + 2 * 50 + 100
    stepping = Holdings(weights=800, teacher=0, trainable=10, largest=50, activations=20)
    assert stepping.per_gpu("ddp", 4) == 800 + 40 + 80 + 40
    assert stepping.per_gpu("zero2", 4) == 800 + (40 + 80 + 40) // 4 + 40 + 20
    assert stepping.per_gpu("fsdp", 2) == (800 + 120) // 2 + 2 * 50 + 20
    with_teacher = Holdings(weights=800, teacher=800, trainable=10, largest=50, activations=100)
    assert with_teacher.per_gpu("fsdp", 4) == holdings.per_gpu("fsdp", 4) + 800


def test_rows_of_another_length_hold_the_same_mixture():
    work = Work.assumed(4096, sample=1000, image_share=0.5, supervised_share=0.25, per_turn=2)
    assert (work.tokens, len(work.samples), len(work.images), work.supervised) == (4096, 4, 8, 1024)
    assert sum(work.images) == 2048
    half = work.of_length(2048)
    assert (half.tokens, sum(half.images), half.supervised) == (2048, 1024, 512)
    assert max(half.samples) == max(work.samples)


@pytest.fixture(scope="module")
def found():
    return estimate(compose("estimate", ["rlhf=gkd_forward", "gpus=[1,2]", "lengths=[512,1024]", *TINY]))


def test_the_command_counts_the_data_of_a_model_that_is_there(found):
    assert found.load.counted
    assert found.load.pack.tokens <= 1024
    assert found.hours[1] == pytest.approx(2 * found.hours[2])
    assert found.hours[1] * 3600 == pytest.approx(sum(found.flops.values()) / (312e12 * 0.35) * found.load.steps)
    kept, recomputed = found.activations[1024]
    assert kept > 2 * recomputed
    assert found.activations[512][0] < kept


def test_a_teacher_costs_less_the_more_is_shared(found):
    each = found.overhead
    assert 0.2 < each.cold < 0.6
    assert each.cold > each.shared > each.cached > 0
    assert found.flops["teacher"] / (sum(found.flops.values()) - found.flops["teacher"]) == pytest.approx(
        each.shared, rel=0.01
    )


def test_lower_layers_that_do_not_train_are_shared():
    tuned, teacher = figures.parts(tiny("rlhf=gkd_forward", "tuner.last_layers={llm: 1}"))
    assert teacher is tuned.model
    assert untouched(tuned.model, Reach.of(tuned.model)) == 0.75


def tiny(*overrides: str) -> EstimateConfig:
    config = compose("estimate", [*TINY, *overrides])
    return replace(config, model=load.resolve(config.model, CACHE))


def test_without_a_model_the_pack_is_assumed():
    work = load_of(compose("estimate", ["model=qwen3_vl_4b", "records=4000", "sample_tokens=2048"]))
    assert not work.counted
    assert work.pack.tokens == 4096
    assert work.tokens == 2000 * 2048
    assert work.steps == -(-1000 // work.packs_per_step)


def test_the_report_is_a_table_and_json(found, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("dvlm.estimate.estimate", lambda config: found)
    report(compose("estimate", [f"output={tmp_path / 'estimate.json'}", *TINY]))
    figures_of = json.loads((tmp_path / "estimate.json").read_text())
    assert figures_of["parameters"] == found.parameters
    assert figures_of["per_gpu"]["zero3"]["2"] == found.per_gpu["zero3"][2]
    printed = capsys.readouterr().out
    for word in ("zero2", "fsdp", "gradient_checkpointing", "warm cache", "counted from the data", "seconds a step"):
        assert word in printed


SEEN = ("dora", "vera", "pissa")  # the kinds that differ most; the others are slow tests


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k in SEEN else pytest.mark.slow) for k in keys.options("tuner")]
)
def test_any_tuner_can_be_estimated(kind):
    config = tiny(f"tuner={kind}")
    tuned, teacher = figures.parts(config)
    assert teacher is None
    work = Work.assumed(128, sample=64, image_share=0.5, supervised_share=0.2, per_turn=1)
    step = figures.simulate(tuned.model, work, low=torch.bfloat16, checkpointing=False)
    assert step.activations >= step.kept > 0
