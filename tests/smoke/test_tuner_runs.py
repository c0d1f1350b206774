"""Whole runs of the tuners whose state is not all weights: trained, resumed bit for bit, merged."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_runs import GKD, run

from dvlm.config import ExportConfig
from dvlm.export import export

OTHERS = ["dora", "boft", "fourierft", "vera", "olora", "lora_plus", "mixed"]


@pytest.mark.parametrize(
    "tuner", ["adalora", "pissa", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_a_run_resumed_ends_as_the_whole_one_and_merges(tuner, tmp_path):
    options = (GKD, f"tuner={tuner}", "trainer.save_steps=1", "trainer.num_train_epochs=2", "optim.learning_rate=0.02")
    whole = run(tmp_path / "whole", *options)
    assert whole.metrics("train/")[0]["train/kl_loss_at_start"] == pytest.approx(0, abs=1e-4)
    resumed = run(tmp_path / "resumed", *options, f"resume_from={whole.checkpoint(3)}")
    ours, theirs = resumed.trainer_state(), whole.trainer_state()
    assert ours["callbacks"].keys() == theirs["callbacks"].keys()
    for name, weight in theirs["state_dict"].items():
        assert torch.equal(weight, ours["state_dict"][name]), name
    for name, weight in whole.adapter().items():
        assert torch.equal(weight, resumed.adapter()[name]), name
    assert resumed.metrics("train/") == whole.metrics("train/")
    export(ExportConfig(checkpoint=str(whole.directory), output=str(tmp_path / "merged")))
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    if tuner == "adalora":
        ranks = json.loads((resumed.directory / "ranks.json").read_text())
        assert ranks == json.loads((whole.directory / "ranks.json").read_text())
        assert sum(ranks.values()) <= 4 * len(ranks) == 4 * 28
