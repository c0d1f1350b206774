"""Which jobs are the same, and what their directories are called."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest
from support import small_config

from dvlm.sweeps import identity


def config(*overrides: str) -> dict:
    return asdict(small_config(*overrides))


@pytest.mark.parametrize("other", ["rlhf.beta=0.2", "data.demo.train=25", "optim.learning_rate=2e-4", "seed=18"])
def test_what_a_run_computes_makes_it_another(other):
    assert identity.digest(config("rlhf=gkd_forward", other)) != identity.digest(config("rlhf=gkd_forward"))


@pytest.mark.parametrize("same", ["cache_dir=elsewhere", "resume_from=run", "sweep.name=x", "sweep.rerun=all"])
def test_where_it_is_kept_does_not(same):
    assert identity.digest(config(same)) == identity.digest(config())


def test_differences_name_the_keys():
    ours, theirs = (identity.essence(config("rlhf=gkd_forward", f"rlhf.beta={beta}")) for beta in (0.1, 0.2))
    assert identity.differences(ours, theirs) == ["rlhf.beta: 0.1, 0.2"]


def test_a_slug_is_safe_and_short():
    assert identity.slug(["rlhf.beta=0.1", "+experiment=sft", "optim.learning_rate=1e-4"]) == (
        "beta-0.1_experiment-sft_learning_rate-1e-4"
    )
    odd = identity.slug(["data.train_jsonl='/a b/图=1,(2).jsonl'", *(f"seed={n}" for n in range(50))])
    assert re.fullmatch(r"[A-Za-z0-9._-]+", odd)
    assert len(odd) <= identity.LONGEST_SLUG
    assert identity.slug([]) == "run"


def test_a_directory_is_found_by_its_digest(tmp_path):
    known = identity.directory(tmp_path, config(), ["a=1"])
    known.mkdir()
    assert identity.directory(tmp_path, config(), ["another=2"]) == known
    assert identity.directory(tmp_path, config("seed=18"), ["a=1"]) != known
