"""Starting a stage from the adapter of an earlier one."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from dvlm.config import TunerConfig
from dvlm.models import adapters, load, tuning
from dvlm.models.tiny import prepare
from dvlm.models.tuning import Tuned
from dvlm.values import InputError

ALIGNER = {"freeze_llm": True, "freeze_aligner": False}
BOTH = {"freeze_aligner": False}


@pytest.fixture(scope="module")
def base(tiny) -> Qwen3VLForConditionalGeneration:
    return Qwen3VLForConditionalGeneration.from_pretrained(tiny)


@pytest.fixture
def tune(base):
    def tune(**knobs: object) -> Tuned:
        return tuning.tune(copy.deepcopy(base), TunerConfig(**{"lora_rank": 4, "lora_alpha": 8} | knobs), seed=1)

    return tune


@pytest.fixture
def stage(tune, tiny, tmp_path):
    """Saves an adapter all of whose weights have moved; returns its directory."""

    def stage(**knobs: object) -> Path:
        tuned = tune(**knobs)
        with torch.no_grad():
            for parameter in tuned.model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.25)
        tuned.model.save_pretrained(tmp_path / "stage", save_embedding_layers=False)
        load.write_base(tmp_path / "stage", str(tiny))
        return tmp_path / "stage"

    return stage


def trained(tuned: Tuned) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in tuned.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "extra", [{}, {"use_dora": True}, {"modules_to_save": ["aligner"]}], ids=["lora", "dora", "whole"]
)
def test_the_aligner_of_stage_one_goes_into_stage_two(tune, stage, extra):
    first, second = {**ALIGNER, **extra}, {**BOTH, **extra}
    if "modules_to_save" in extra:
        first["target_regex"] = "^$"
    directory = stage(**first)
    fresh, tuned = trained(tune(**second)), tune(**second)
    names = adapters.start_from(tuned.model, directory)
    after = trained(tuned)
    for name, weight in after.items():
        moved = 0.25 if "merger" in name else 0.0
        assert torch.equal(weight, fresh[name] + moved), name
    assert names
    assert all("language_model" in name for name in names)


def test_what_is_adapted_alike_is_taken_over_whole(tune, stage):
    tuned = tune(**BOTH)
    assert adapters.start_from(tuned.model, stage(**BOTH)) == []


@pytest.mark.parametrize(
    ("earlier", "now", "message"),
    [
        ({}, {"lora_rank": 8}, "has r 4, this run 8"),
        ({}, {"lora_alpha": 16}, "has lora_alpha 8, this run 16"),
        ({}, {"use_dora": True}, "has use_dora False, this run True"),
        ({"use_rslora": True}, {}, "has use_rslora True, this run False"),
        (BOTH, {}, "16 weights of .* have no place in this tuner, such as .*merger.* unfreeze their tower"),
        ({"modules_to_save": ["aligner"]}, BOTH, "have no place in this tuner"),
    ],
)
def test_what_does_not_fit_is_refused(tune, stage, earlier, now, message):
    tuned, directory = tune(**now), stage(**earlier)
    before = trained(tuned)
    with pytest.raises(InputError, match=f"tuner.resume_from_checkpoint: .*{message}"):
        adapters.start_from(tuned.model, directory)
    assert all(torch.equal(weight, before[name]) for name, weight in trained(tuned).items())


def test_another_base_is_refused(tune, stage, cache):
    directory = stage()
    load.write_base(directory, str(prepare(cache, seed=18)))
    with pytest.raises(InputError, match="tuner.resume_from_checkpoint: .* was trained on .* not on"):
        adapters.start_from(tune().model, directory)


def test_a_directory_without_an_adapter_is_refused(tune, tmp_path):
    with pytest.raises(InputError, match=r"no adapter_model\.safetensors in"):
        adapters.start_from(tune().model, tmp_path)
