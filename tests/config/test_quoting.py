r"""A path reaches the dataclass unchanged: with Chinese, spaces, `=`, `,`, brackets, quotes, `\`, `$`, `~`."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from dvlm.config import TrainConfig, keys
from dvlm.config.compose import compose
from dvlm.config.overrides import HYDRA_PATHS, QUOTED, check_overrides, quoted_paths, sweep_points
from dvlm.config.roots import ROOTS

NASTY = "图片é =,()[]{}'\"\\$~#&%*?:;|<>!@+-./ab0\t"
PATHS = sorted(key for key, item in keys.knob_paths(TrainConfig) if item.metadata.get("path"))
texts = st.text(NASTY, min_size=1, max_size=12)


def meant_as_text(value: str) -> bool:
    """Not one of the forms that keep their meaning: `${...}`, a quoted value, null, missing."""
    return "${" not in value and not QUOTED.fullmatch(value) and value not in ("null", "???")


def parsed(overrides: list[str]) -> list[str]:
    return [str(override.value()) for override in OverridesParser.create().parse_overrides(overrides)]


@pytest.mark.parametrize("verb", ROOTS)
def test_every_path_of_a_verb_is_quoted(verb):
    paths = [key for key, item in keys.knob_paths(ROOTS[verb]) if item.metadata.get("path")]
    assert paths
    value = "/数 据/a=(b,c)/[d]{e}~'f\"\\"
    quoted = quoted_paths([f"{key}={value}" for key in [*paths, *HYDRA_PATHS]], ROOTS[verb], multirun=False)
    assert parsed(quoted) == [value] * len(quoted)


@settings(max_examples=150, deadline=None)
@given(value=texts)
@example(value="'")
@example(value="'a")
@example(value="'a'b'")
@example(value="a\\")
@example(value="a\\\\'")
@example(value="\\'\\")
@example(value=" a ")
@example(value="[a]")
@example(value="1e-4")
@example(value="true")
@example(value="$a")
def test_quoted_text_reads_back(value):
    assume(meant_as_text(value))
    quoted = quoted_paths([f"data.train_jsonl={value}"], TrainConfig, multirun=False)
    assert parsed(quoted) == [value]
    assert quoted_paths(quoted, TrainConfig, multirun=False) == quoted


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=st.tuples(*[texts.filter(meant_as_text)] * 4))
def test_paths_and_texts_reach_the_dataclass(values):
    train, val, cache, prompt = values
    config = compose(
        "train",
        [
            "data=jsonl",
            f"data.train_jsonl={train}",
            f"data.val_jsonl={val}",
            f"cache_dir={cache}",
            f"data.user_prompt={prompt}",
        ],
    )
    assert (config.data.train_jsonl, config.data.val_jsonl, config.cache_dir, config.data.user_prompt) == values


def test_special_forms_keep_their_meaning(monkeypatch):
    monkeypatch.setenv("DVLM_TEST_DIRECTORY", "/数 据")
    config = compose(
        "train",
        [
            "data=jsonl",
            "data.train_jsonl=${oc.env:DVLM_TEST_DIRECTORY}/a=b.jsonl",
            "data.val_jsonl=null",
            "cache_dir='in quotes of its own'",
            'data.user_prompt="a, b"',
        ],
    )
    assert config.data.train_jsonl == "/数 据/a=b.jsonl"
    assert config.data.val_jsonl is None
    assert config.cache_dir == "in quotes of its own"
    assert config.data.user_prompt == "a, b"


def test_a_regex_needs_no_quotes():
    config = compose("train", ["tuner.target_regex=.*layers\\.(1|2)\\..*(q|v)_proj$"])
    assert config.tuner.target_regex == ".*layers\\.(1|2)\\..*(q|v)_proj$"


def test_other_knobs_are_left_alone():
    overrides = ["tuner.modules_to_save=[a,b]", "rlhf.beta=0.1", "+experiment=sft", "seed"]
    assert quoted_paths(overrides, TrainConfig, multirun=False) == overrides


def test_under_multirun_a_comma_separates_the_values_of_a_sweep():
    overrides = ["model.model=/a b,/c", "data.train_jsonl=/a b", "cache_dir='/a,b'"]
    assert quoted_paths(overrides, TrainConfig, multirun=True) == [
        overrides[0],
        "data.train_jsonl='/a b'",
        overrides[2],
    ]


def test_sweep_points_try_every_value_once():
    points = list(sweep_points(["rlhf=none,gkd_forward", "seed=1,2,3", "debug=true", "rlhf.beta=interval(0,1)"]))
    assert points == [
        ["rlhf=none", "seed=1", "debug=true"],
        ["rlhf=gkd_forward", "seed=1", "debug=true"],
        ["rlhf=none", "seed=2", "debug=true"],
        ["rlhf=none", "seed=3", "debug=true"],
    ]
    for point in points:
        check_overrides(point, "train")


def test_on_the_real_command_line(tmp_path):
    train = "/tmp/图 片=(a,b)/x.jsonl"
    command = [sys.executable, "-m", "dvlm.train", "--cfg", "job", "data=jsonl", f"data.train_jsonl={train}"]
    done = subprocess.run([*command, "resume_from=it's \\ [x]"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert config["data"]["train_jsonl"] == train
    assert config["resume_from"] == "it's \\ [x]"
