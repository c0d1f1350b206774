"""Every experiment and every option of every group composes, on the tiny model and on a real one."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import yaml

from dvlm.config import TrainConfig, keys
from dvlm.config.compose import compose
from dvlm.config.roots import ROOTS

EXPERIMENTS = keys.options("experiment")
GROUPS = [group for group in keys.groups_of(TrainConfig) if group != "sweep"]  # it has a plus: see below
OPTIONS = [(group, option) for group in GROUPS for option in keys.options(group)]
VALUES = {
    "data=jsonl": ["data.train_jsonl=train.jsonl"],
    "data=mixture": ["data.sources=[{name: a, train_jsonl: a.jsonl}, {name: b, train_jsonl: b.jsonl}]"],
}
NEEDED = {
    "train": (),
    "validate": (),
    "export": ("checkpoint=run", "output=merged"),
}


@pytest.mark.parametrize("model", ["tiny", "qwen3_vl_4b"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_composes(name, model):
    config = compose("train", [f"+experiment={name}", f"model={model}"])
    assert isinstance(config, TrainConfig)
    assert config.model.model == {"tiny": "tiny", "qwen3_vl_4b": "Qwen/Qwen3-VL-4B-Instruct"}[model]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_leaves_model_and_data_to_the_user(name):
    content = yaml.safe_load((keys.CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    groups = [item for item in content.get("defaults", ()) if isinstance(item, dict)]  # the rest are experiments
    chosen = {key.removeprefix("override ").lstrip("/") for item in groups for key in item}
    assert not chosen & {"model", "data"}
    assert "model" not in content
    assert not set(content.get("data", ())) & {"train_jsonl", "val_jsonl", "demo"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_opens_with_its_command(name):
    lines = (keys.CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    opening = [line for line in lines[: next(i for i, line in enumerate([*lines, ""]) if not line.startswith("#"))]]
    assert opening[0] == "# @package _global_"
    assert any(f"{line} ".startswith(f"# python -m dvlm.train +experiment={name} ") for line in opening)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes(group, option):
    choice = f"{group}={option}"
    assert isinstance(compose("train", [choice, *VALUES.get(choice, [])]), TrainConfig)


@pytest.mark.parametrize("name", keys.options("sweep"))
def test_sweep_composes_and_opens_with_its_command(name):
    assert isinstance(compose("train", [f"+sweep={name}"]), TrainConfig)
    lines = (keys.CONF / "sweep" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"
    assert any(line.startswith("# python -m dvlm.train -m ") and f"+sweep={name}" in line for line in lines)


@pytest.mark.parametrize("verb", NEEDED)
def test_to_object_gives_real_instances(verb):
    def check(value: Any, schema: type) -> None:
        assert type(value) is schema
        for item in fields(schema):
            nested = getattr(value, item.name)
            if is_dataclass(nested):
                check(nested, type(nested))
            assert type(nested).__module__.split(".")[0] != "omegaconf"

    check(compose(verb, list(NEEDED[verb])), ROOTS[verb])


def test_every_verb_has_its_file():
    assert {path.stem for path in keys.CONF.glob("*.yaml")} == set(ROOTS)
