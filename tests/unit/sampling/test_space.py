"""A search space in the words of Hydra's sweeps."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from dvlm.values import InputError
from hydra_plugins._dvlm_space import split, written


def parsed(*lines: str):
    return split(OverridesParser.create().parse_overrides(list(lines)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0.05,0.5)", FloatDistribution(0.05, 0.5)),
        ("tag(log,interval(1e-5,1e-3))", FloatDistribution(1e-5, 1e-3, log=True)),
        ("int(interval(4,16))", IntDistribution(4, 16)),
        ("tag(log,int(interval(4,64)))", IntDistribution(4, 64, log=True)),
        ("range(8,33,8)", IntDistribution(8, 32, step=8)),
        ("range(0,1,0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("choice(5e-5,1e-4)", CategoricalDistribution(["5e-05", "0.0001"])),
        ("0.1,0.2,0.1", CategoricalDistribution(["0.1", "0.2"])),
        ("[a,b],null", CategoricalDistribution(["[a,b]", "null"])),
    ],
)
def test_spaces(text, expected):
    fixed, space = parsed(f"x={text}")
    assert (fixed, space) == ([], {"x": expected})


def test_what_is_fixed_and_what_comes_last():
    fixed, space = parsed("x=interval(0,1)", "+experiment=sft", "y=1,2", "x=0.5", "data.train_jsonl='a b,c'")
    assert fixed == ["x=0.5", "+experiment=sft", "data.train_jsonl='a b,c'"]
    assert list(space) == ["y"]


def test_a_group_is_a_choice_and_every_value_is_an_override_again():
    _, space = parsed("rlhf=gkd_forward,none")
    assert space == {"rlhf": CategoricalDistribution(["gkd_forward", "none"])}
    lines = written({"rlhf": "none", "rlhf.beta": 0.1 + 0.2, "tuner.lora_rank": 8})
    assert lines == ["rlhf=none", "rlhf.beta=0.30000000000000004", "tuner.lora_rank=8"]
    assert parsed(*lines) == (lines, {})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x=interval(1,0)", "no search space"),
        ("x=tag(log,interval(0,1))", "no search space"),
        ("x=tag(log,choice(1,2))", "is for interval"),
        ("x=tag(linear,interval(0,1))", "the tag linear means nothing here; known: log"),
        ("x=range(3,1)", "no search space"),
    ],
)
def test_what_is_no_space(line, message):
    with pytest.raises(InputError, match=message):
        parsed(line)
