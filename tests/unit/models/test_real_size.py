"""What trains of a model of the released size, on the meta device: no weights, no memory."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from dvlm import checks
from dvlm.config import TunerConfig
from dvlm.models import published, towers, tuning
from dvlm.models.towers import Tower


def qwen3_vl_4b() -> Qwen3VLForConditionalGeneration:
    with torch.device("meta"):
        return Qwen3VLForConditionalGeneration(published.config("Qwen/Qwen3-VL-4B-Instruct"))


def trainable(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_lora_on_the_language_model():
    model = qwen3_vl_4b()
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_437_815_808
    tuned = tuning.tune(model, TunerConfig(), seed=1)
    checks.check_tuned(tuned)
    assert len(tuned.targets) == 252
    assert trainable(tuned.model) == 66_060_288
    size = sum(p.numel() * p.element_size() for p in tuned.model.parameters() if p.requires_grad)
    assert size == 252 * 2**20
    names = [name for name, parameter in tuned.model.named_parameters() if parameter.requires_grad]
    assert all(".language_model.layers." in name and ".lora_" in name for name in names)


@pytest.mark.parametrize("free", [("vit",), ("aligner",), ("llm",), ("llm", "aligner"), ("vit", "aligner", "llm")])
def test_full_tuning_trains_the_free_towers_to_the_last_parameter(free):
    """Positions, patches and deepstack mergers are where a freeze flag that works by name goes wrong."""
    flags = {f"freeze_{tower}": tower not in free for tower in ("llm", "vit", "aligner")}
    tuned = tuning.tune(qwen3_vl_4b(), TunerConfig(train_type="full", **flags), seed=1)
    counts = {Tower.VIT: 306_242_560, Tower.ALIGNER: 109_105_152, Tower.LLM: 4_022_468_096}
    for tower, rows in towers.parameters(tuned.model).items():
        found = sum(parameter.numel() for _, parameter in rows if parameter.requires_grad)
        assert found == (counts[tower] if tower in free else 0), tower


@pytest.mark.parametrize(
    ("knobs", "modules", "parameters"),
    [
        ({"freeze_vit": False, "freeze_aligner": False}, 356, 80_543_744),
        ({"modules_to_save": ["aligner"]}, 252, 175_165_440),
    ],
    ids=["all-towers", "mixed"],
)
def test_adapters_on_more_than_the_language_model(knobs, modules, parameters):
    tuned = tuning.tune(qwen3_vl_4b(), TunerConfig(**knobs), seed=1)
    assert len(tuned.targets) == modules
    assert trainable(tuned.model) == parameters
