"""What an earlier stage left: found, named, refused. Whole runs that start from one: tests/smoke/test_stages.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support import small_config

from dvlm import stages
from dvlm.config import TrainConfig
from dvlm.models.tiny import TinySpec, prepare
from dvlm.values import InputError


def starting_from(path: object, *overrides: str) -> TrainConfig:
    config = small_config(*overrides)
    return replace(config, tuner=replace(config.tuner, resume_from_checkpoint=str(path)))


@pytest.fixture
def adapter(tmp_path) -> Path:
    """The settings of an adapter without weights: enough to be known as one."""
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"r": 4}))
    return tmp_path / "adapter"


def test_an_adapter_directory_is_found_as_one(adapter):
    stage = stages.find_stage(str(adapter))
    assert stage.is_adapter
    assert str(stage) == f"the adapter in {adapter}"


def test_a_model_directory_is_found_as_a_whole_model(tiny):
    assert str(stages.find_stage(str(tiny))) == f"the whole model in {tiny}"


def test_a_recipe_without_its_earlier_stage_says_what_to_give():
    config = small_config("+experiment=stage_2_llm")
    with pytest.raises(InputError, match=r"there is no directory 'the run of stage 1'; give .* or null to start from"):
        stages.resolved(config)
    free = small_config("+experiment=stage_2_llm", "tuner.resume_from_checkpoint=null")
    assert stages.resolved(free).tuner.resume_from_checkpoint is None


def test_a_run_that_continues_may_leave_its_stage_out():
    config = small_config("+experiment=stage_2_llm", "resume_from=run")
    assert stages.resolved(config).tuner.resume_from_checkpoint is None


def test_a_directory_with_neither_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has neither an adapter .* nor a model"):
        stages.find_stage(str(tmp_path))


def test_full_tuning_has_no_place_for_an_adapter(adapter):
    with pytest.raises(
        InputError, match="holds an adapter, but full tuning has none; merge it with `python -m dvlm.ex"
    ):
        stages.resolved(starting_from(adapter, "tuner=full"))


def test_a_whole_model_is_the_base_and_an_adapter_is_not(tiny, adapter):
    config = starting_from(tiny, f"model.model={tiny}")
    assert stages.base_of(config) == str(tiny)
    assert stages.base_of(starting_from(adapter, f"model.model={tiny}")) == str(tiny)


def test_a_whole_model_of_another_size_is_refused(tiny, cache):
    other = prepare(cache, spec=TinySpec(hidden=96, head_dim=24))
    with pytest.raises(InputError, match=r"has text_config.hidden_size 96, but .* has 128"):
        stages.base_of(starting_from(other, f"model.model={tiny}"))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ((), None),
        (("tuner=pissa",), None),
        (("tuner.init_lora_weights=false",), "init_lora_weights=false starts adapters at random"),
        (("tuner.resume_from_checkpoint=x",), "the student starts from trained weights"),
        (("rlhf.teacher_model=x",), "the teacher is another model"),
    ],
)
def test_why_the_student_does_not_start_as_its_teacher(overrides, reason):
    found = stages.not_as_teacher(small_config(*overrides))
    assert found is None if reason is None else reason in found
