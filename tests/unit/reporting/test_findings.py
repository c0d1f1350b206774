"""What is read off a run's curves, and which parameter matters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_sweep import make

from dvlm.reporting import log, runs
from dvlm.reporting import sweep as sweeps
from dvlm.reporting.flags import BAD, GOOD, WATCH, check
from dvlm.reporting.importance import importance
from dvlm.reporting.log import HITS, MISSES, Log, Series
from dvlm.reporting.runs import KL, SFT, Run
from dvlm.reporting.sharing import sharing
from dvlm.sweeps.status import State, Status

STEPS = np.arange(100)


def made(name: str = "run", **series: list[float] | np.ndarray) -> Run:
    """A run whose metrics are given as `train__kl_loss=values` at the steps 0, 1, 2, ..."""
    logged = {
        key.replace("__", "/"): Series(np.arange(len(values)), np.array(values, np.float64))
        for key, values in series.items()
    }
    return Run(Path(name), {}, {}, None, Log(logged))


def test_kl_that_levels_off_and_kl_that_rises():
    assert [(flag.level, flag.text) for flag in check(made(train__kl_loss=1 - np.exp(-STEPS / 10)), [])] == [
        (GOOD, "kl_loss levels off")
    ]
    assert [flag.level for flag in check(made(train__kl_loss=STEPS * 0.01), [])] == [WATCH]
    assert check(made(train__kl_loss=[0.1] * 5), []) == [], "too short a curve"


def test_a_jump_is_one_after_the_rise_from_zero():
    assert check(made(eval__kl_loss=[0, 0.1, 0.12, 0.11]), []) == []
    jump = check(made(eval__kl_loss=[0, 0.1, 0.12, 0.9]), [])
    assert [flag.level for flag in jump] == [BAD]
    assert "jumps from 0.12 to 0.9 at step 3" in jump[0].text


def test_losses_against_sft_and_against_the_start():
    baseline = made(eval__sft_loss=[2, 1.0])
    assert "20% above the SFT baseline" in check(made(eval__sft_loss=[2, 1.2]), [baseline])[0].text
    assert check(made(eval__sft_loss=[2, 1.02]), [baseline])[0].level == GOOD
    assert "never fell" in check(made(eval__sft_loss=[2, 2.1]), [])[0].text
    assert "not a number" in check(made(train__loss=[1, float("nan")]), [])[0].text


def test_a_log_is_thinned_but_keeps_every_validation_and_the_last_step(tmp_path):
    lines = [{"step": step, "train/loss": 1.0 / (step + 1), "train/sft_loss": 1.0} for step in range(2000)]
    lines += [{"step": step, "eval/loss": float(step)} for step in range(0, 2000, 7)]
    lines += [{"step": 3, "train/kl_loss_at_start": 0.0}, {"step": None, "x": 1}, ["no row"]]
    path = tmp_path / "logging.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 2000, "train/l')
    read = log.read(path)
    assert list(read.series["eval/loss"].steps) == list(range(0, 2000, 7))
    assert 200 < len(read.series["train/loss"].steps) < 400
    assert "train/kl_loss_at_start" in read.series
    assert log.read(tmp_path / "none").series == {}


def test_values_are_those_of_the_best_checkpoint(tmp_path):
    rows = [(0, 9, 0.0), (10, 1.0, 0.3), (20, 2.0, 0.4)]
    lines = [{"step": step, "eval/loss": loss, KL: kl} for step, loss, kl in rows]
    (tmp_path / "logging.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert (runs.read(tmp_path).best_step, runs.read(tmp_path).value(KL)) == (10, 0.3)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best").symlink_to("step-000020")
    assert (runs.read(tmp_path).best_step, runs.read(tmp_path).value(KL)) == (20, 0.4)
    assert runs.read(tmp_path).value(SFT) is None


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("sweeps") / "grid", runs=24, steps=20, every=10, failed=0)


def test_importance_of_a_grid_is_its_analysis_of_variance(grid):
    read = sweeps.read(grid)
    found = importance(read, KL)
    assert next(iter(found.shares)) == "rlhf.beta"
    assert sum(found.shares.values()) == pytest.approx(1)
    values = np.array([run.value(KL) for run in read.runs])
    by_beta = {}
    for run, value in zip(read.runs, values, strict=True):
        by_beta.setdefault(run.parameter("rlhf.beta"), []).append(value)
    expected = np.var([np.mean(group) for group in by_beta.values()]) / values.var()
    assert found.shares["rlhf.beta"] == pytest.approx(expected)


def test_importance_of_samples_needs_enough_of_them(tmp_path):
    few = sweeps.read(make(tmp_path / "few", runs=8, steps=20, every=10, sampled=True))
    assert importance(few, KL) is None
    many = sweeps.read(make(tmp_path / "many", runs=30, steps=20, every=10, failed=0, sampled=True))
    found = importance(many, KL)
    assert "PED-ANOVA over 30" in found.method
    assert sum(found.shares.values()) == pytest.approx(1)
    assert {"rlhf.beta", "optim.learning_rate"} <= set(found.shares)


def test_what_the_teacher_cache_saved(tmp_path):
    """Warm steps are 1.5 times as fast as cold ones; the warm run took an hour, all of it hits."""
    assert sharing([made()]) is None
    for name, hits, rate in (("cold", 0, 100.0), ("warm", 2, 150.0)):
        lines = [
            {"step": step, "train/loss": 1.0, HITS: float(hits), MISSES: 2.0 - hits, "perf/tokens_per_second": rate}
            for step in range(1000)
        ]
        (tmp_path / name).mkdir()
        (tmp_path / name / "logging.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        started, ended = "2025-01-01T00:00:00+00:00", "2025-01-01T01:00:00+00:00"
        Status(state=State.SUCCEEDED, started=started, ended=ended).write(tmp_path / name)
    found = sharing([runs.read(tmp_path / name) for name in ("cold", "warm")])
    assert (found.hits, found.misses) == (2000, 2000), "thinned lines count too"
    assert found.saved == pytest.approx(1800)
    assert sharing([runs.read(tmp_path / "warm")]).saved is None, "nothing shows what a cold step takes"
