"""A run whose health checks fail does not train: it ends before its first checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_runs import GKD, run

from dvlm.checks import HealthError
from dvlm.models import prefix, tuning
from dvlm.values import InputError


def test_a_student_that_is_not_its_teacher_does_not_train(monkeypatch, tmp_path):
    """As when adapters were loaded that should have started at zero."""
    tune = tuning.tune

    def moved(*args: Any, **options: Any) -> tuning.Tuned:
        tuned = tune(*args, **options)
        with torch.no_grad():
            for name, parameter in tuned.model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        return tuned

    monkeypatch.setattr(tuning, "tune", moved)
    with pytest.raises(HealthError, match="kl_loss before the first step"):
        run(tmp_path, GKD, "trainer.eval_at_start=false")
    assert not (tmp_path / "checkpoints").exists()


def test_a_tower_without_gradients_does_not_train(monkeypatch, tmp_path):
    """As when the pictures do not reach the model."""
    monkeypatch.setattr(prefix, "_aligned", lambda model, batch, trunk: None)
    with pytest.raises(HealthError, match="aligner: "):
        run(tmp_path, "tuner.freeze_aligner=false", "trainer.eval_at_start=false")
    assert not (tmp_path / "checkpoints").exists()


def test_a_metric_that_is_not_logged_is_refused_before_training(tmp_path):
    with pytest.raises(
        InputError, match="metric_for_best_model is eval/kl_loss, which is not logged; logged are eval/"
    ):
        run(tmp_path, "rlhf=none", "trainer.metric_for_best_model=eval/kl_loss")
    assert not (tmp_path / "checkpoints").exists()
