"""Stage after stage: a run that starts from the weights of an earlier one."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_runs import GKD, run

from dvlm.config import ExportConfig
from dvlm.export import export

ALIGNER = ("tuner.freeze_llm=true", "tuner.freeze_aligner=false")
BOTH = ("tuner.freeze_aligner=false",)


@pytest.mark.parametrize("whole", [(), ("tuner.modules_to_save=[aligner]",)], ids=["lora", "aligner-whole"])
def test_stage_two_starts_where_stage_one_ended(tmp_path, whole):
    """And its teacher is still the base: the divergence starts above 0, which is no fault here."""
    no_adapters = ("tuner.target_regex='^$'",) if whole else ()
    first = run(tmp_path / "1", *ALIGNER, *whole, *no_adapters, "optim.learning_rate=0.02")
    second = run(tmp_path / "2", GKD, *BOTH, *whole, f"tuner.resume_from_checkpoint={first.directory}")
    ended, started = first.metrics("eval/")[3], second.metrics("eval/")[0]
    assert started["eval/sft_loss"] == pytest.approx(ended["eval/sft_loss"], rel=1e-6)
    assert second.metrics("train/")[0]["train/kl_loss_at_start"] > 1e-6
    assert {"lr/llm", "lr/aligner"} <= set(second.metrics("train/")[1])
    aligner = [name for name in second.adapter() if "merger" in name]
    assert len(aligner) == len(first.adapter())
    assert not torch.equal(second.adapter()[aligner[0]], first.adapter()[aligner[0]])


@pytest.mark.parametrize("kind", ["merged", "full"])
def test_a_whole_model_of_stage_one_becomes_the_base_and_not_the_teacher(tmp_path, capsys, kind):
    """Merged from an adapter, or left by full tuning: the student starts there, the teacher is still the first base."""
    options = ALIGNER if kind == "merged" else (*ALIGNER, "tuner=full")
    first = run(tmp_path / "1", *options, "optim.learning_rate=0.01")
    whole = first.directory
    if kind == "merged":
        whole = tmp_path / "merged"
        export(ExportConfig(checkpoint=str(first.checkpoint("last")), output=str(whole)))
    second = run(tmp_path / "2", GKD, *BOTH, f"tuner.resume_from_checkpoint={whole}", "trainer.save_steps=1")
    assert "starts from the whole model in" in capsys.readouterr().out
    ended, started = first.metrics("eval/")[3], second.metrics("eval/")[0]
    assert started["eval/sft_loss"] == pytest.approx(ended["eval/sft_loss"], rel=1e-5)
    assert second.metrics("train/")[0]["train/kl_loss_at_start"] > 1e-6
    resumed = run(
        tmp_path / "3", GKD, *BOTH, f"tuner.resume_from_checkpoint={whole}", f"resume_from={second.checkpoint(2)}"
    )
    assert torch.equal(*(list(each.adapter().values())[0] for each in (resumed, second)))


def test_what_starts_fresh_is_listed(tmp_path, capsys):
    first = run(tmp_path / "1", *ALIGNER, "data.sample_limit=2")
    second = run(tmp_path / "2", *BOTH, f"tuner.resume_from_checkpoint={first.checkpoint()}", "data.sample_limit=2")
    out = capsys.readouterr().out
    assert "starts from the adapter in" in out
    assert "56 weights that it lacks start fresh: " in out
    fresh = json.loads((second.directory / "run.json").read_text())["fresh"]
    assert len(fresh) == 56
    assert all("language_model" in name for name in fresh)
