"""A checkpoint is evaluated: its losses are those of its run, its answers are scored, training can go by the scores."""

from __future__ import annotations

import json

import pytest
from support import CACHE
from tiny_runs import GKD, SHORT, Run, run

from dvlm.config.compose import compose
from dvlm.evaluate import evaluate
from dvlm.models.tiny import prepare
from dvlm.values import InputError

BRIEF = ("engine.max_new_tokens=200", "engine.max_objects=2", "engine.max_desc_chars=4", "resamples=50")
DATA = tuple(
    item for item in SHORT if item.startswith(("data.demo", "data.images", "data.max_pixels", "global_max_length"))
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    """Three steps; answers are scored at the start and at the end."""
    scored = ("callbacks.score_turns=2", "callbacks.score_max_new_tokens=40", "trainer.greater_is_better=true")
    directory = tmp_path_factory.mktemp("evaluated") / "run"
    return run(directory, GKD, "optim.learning_rate=0.01", "trainer.metric_for_best_model=eval/f1", *scored)


def evaluated(folder, *overrides: str) -> dict:
    evaluate(compose("evaluate", [f"output={folder}", f"cache_dir={CACHE}", *DATA, *BRIEF, *overrides]))
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def test_losses_are_those_of_the_run(trained, tmp_path, capsys):
    found = evaluated(tmp_path, f"checkpoint={trained.directory}", "free_too=true", "limit=2")
    logged = trained.metrics("eval/")[3]
    for name in ("sft_loss", "kl_loss", "token_accuracy", "token_count"):
        assert found["losses"][name] == pytest.approx(logged[f"eval/{name}"], rel=1e-4), name
    assert found["losses"]["kl_loss"] > 0.01
    assert set(found["scores"]) == {"constrained", "free"}
    assert found["scores"]["constrained"]["parse_failures"][0] in (0, 0.5, 1)
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(answers) == 2
    assert "index.html" in capsys.readouterr().out
    with pytest.raises(InputError, match="overwrite=true"):
        evaluated(tmp_path, f"checkpoint={trained.directory}")


def test_the_base_is_scored_beside_it(trained, tmp_path):
    tiny = prepare(CACHE)
    base = evaluated(tmp_path / "base", "checkpoint=base", f"base_model={tiny}", "generate=false")
    assert base["losses"]["sft_loss"] == pytest.approx(trained.metrics("eval/")[0]["eval/sft_loss"], rel=1e-4)
    assert "kl_loss" not in base["losses"]
    evaluated(tmp_path / "run", f"checkpoint={trained.directory}", "generate=false", f"against={tmp_path / 'base'}")
    assert "better" in (tmp_path / "run" / "index.html").read_text(encoding="utf-8")


def test_training_logs_scores_and_goes_by_them(trained):
    metrics = trained.metrics("eval/")
    assert {"eval/f1", "eval/f1_bbox", "eval/parse_failures"} <= metrics[0].keys() & metrics[3].keys()
    assert not [name for name in metrics[3] if name.startswith("eval/class/")]
    assert trained.checkpoint("best").exists()
