"""The gradient of an optimizer step is that of its supervised tokens, however they are laid out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_runs import GKD, Run, run

from dvlm.learning.module import SFTModule

# One step over all records; the adapters do not start at zero, so that each has a gradient and the divergence counts.
STEP = (
    GKD,
    "rlhf.beta=1.0",
    "tuner.init_lora_weights=false",
    "tuner.freeze_aligner=false",
    "trainer.eval_at_start=false",
)
LAYOUTS = {
    "accumulated": ("data.packs_per_step=4", "global_max_length=320"),
    "packed": ("data.packs_per_step=1", "global_max_length=2048"),
    "padded": ("data.packs_per_step=1", "data.packing=false", "data.samples_per_pack=4"),
    "padded-accumulated": ("data.packs_per_step=2", "data.packing=false", "data.samples_per_pack=2"),
}


@pytest.fixture
def gradients(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """The gradients of each step as the optimizer gets them, before clipping."""
    seen: list[dict[str, torch.Tensor]] = []
    clip = SFTModule.configure_gradient_clipping

    def keep(module: SFTModule, *args: Any, **options: Any) -> None:
        seen.append({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})
        clip(module, *args, **options)

    monkeypatch.setattr(SFTModule, "configure_gradient_clipping", keep)
    return seen


def first_step(made: Run) -> dict[str, float]:
    values = made.metrics("train/")[1]
    return {name: value for name, value in values.items() if "kl_loss_at_start" not in name}


def test_layouts_agree(gradients, tmp_path):
    """Three records leave one pack of four to fill, which must count for nothing."""
    runs = {name: run(tmp_path / name, *STEP, "data.sample_limit=3", *layout) for name, layout in LAYOUTS.items()}
    assert len(gradients) == len(LAYOUTS)
    for theirs in gradients[1:]:
        assert theirs.keys() == gradients[0].keys()
        for name, ours in gradients[0].items():
            difference = torch.linalg.vector_norm(theirs[name] - ours) / torch.linalg.vector_norm(ours)
            assert difference < 1e-5, name
    expected = first_step(runs["accumulated"])
    assert expected["train/kl_loss"] > 1e-3
    for name in LAYOUTS:
        assert first_step(runs[name]) == pytest.approx(expected, rel=1e-5), name


def test_the_logged_norm_is_that_of_the_gradients_before_clipping(gradients, tmp_path):
    made = run(tmp_path, *STEP, *LAYOUTS["accumulated"], "data.sample_limit=4", "optim.max_grad_norm=1e-3")
    norm = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients[0].values()]))
    assert norm > 0.1
    assert made.metrics("train/")[1]["train/grad_norm"] == pytest.approx(float(norm), rel=1e-5)
