"""`python -m dvlm.teacher` before a sweep: its runs find every state, and train as if the teacher had been asked."""

from __future__ import annotations

import pytest
from support import SMALL
from tiny_runs import GKD, SHORT, run

from dvlm.config.compose import compose
from dvlm.data import demo
from dvlm.models import tiny
from dvlm.teacher import fill
from dvlm.values import InputError

HITS, MISSES = "perf/teacher_cache_hits", "perf/teacher_cache_misses"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cache directory of its own."""
    path = tmp_path_factory.mktemp("cache")
    tiny.prepare(path)
    demo.prepare(path, train=6, val=2)
    return path


def test_a_filled_cache_answers_every_question(folder, tmp_path, capsys):
    fill(compose("teacher", [f"cache_dir={folder}", *SMALL, *SHORT, GKD]))
    assert "8 samples computed, 0 were there" in capsys.readouterr().out
    fill(compose("teacher", [f"cache_dir={folder}", *SMALL, *SHORT, GKD]))
    assert "0 samples computed, 8 were there" in capsys.readouterr().out

    # Other packs, another beta, another tuner; the same samples.
    knobs = (GKD, "rlhf.beta=0.5", "tuner.use_dora=true", "global_max_length=1024")
    warm = run(tmp_path / "warm", *knobs, f"cache_dir={folder}", "rlhf.teacher_cache=read_write")
    counts = [(line[HITS], line[MISSES]) for line in warm.log if HITS in line]
    assert sum(misses for _, misses in counts) == 0
    assert sum(hits for hits, _ in counts) >= 10
    assert "computed once for student and teacher: vision features; cache: " in capsys.readouterr().out

    cold = run(tmp_path / "cold", *knobs)
    for prefix in ("train/", "eval/"):
        for step, values in cold.metrics(prefix).items():
            found = warm.metrics(prefix)[step]
            assert {key: found[key] for key in values} == pytest.approx(values, rel=1e-4, abs=1e-6)
    assert all(HITS not in line for line in cold.log)


def test_what_cannot_be_filled_says_so(folder):
    with pytest.raises(InputError, match="rlhf has no teacher: nothing to fill"):
        fill(compose("teacher", [f"cache_dir={folder}", *SMALL, *SHORT]))
    knobs = (GKD, "rlhf.teacher_cache_gib=1e-6")
    with pytest.raises(InputError, match=r"teacher_cache_gib is 1e-06, but the states of this plan take .* GiB"):
        fill(compose("teacher", [f"cache_dir={folder}", *SMALL, *SHORT, *knobs]))
