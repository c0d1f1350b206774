"""Towers part the model without gap or overlap, at the tiny size and at that of the released 4B."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from dvlm.config import TunerConfig
from dvlm.models import towers, tuning
from dvlm.models.towers import Tower

# The sizes of Qwen3-VL-4B, from which its published parameter count follows.
TEXT_4B = {
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 9728,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
VISION_4B = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "out_hidden_size": 2560,
    "deepstack_visual_indexes": [5, 11, 17],
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


@pytest.fixture(scope="module")
def tiny_model(tiny) -> Qwen3VLForConditionalGeneration:
    return Qwen3VLForConditionalGeneration.from_pretrained(tiny)


@pytest.fixture
def model_4b() -> Qwen3VLForConditionalGeneration:
    config = Qwen3VLConfig(text_config=TEXT_4B, vision_config=VISION_4B, tie_word_embeddings=True)
    with torch.device("meta"):
        return Qwen3VLForConditionalGeneration(config)


def counts(model: torch.nn.Module, training: bool = False) -> dict[Tower, int]:
    rows = towers.parameters(model)
    return {t: sum(p.numel() for _, p in rows[t] if p.requires_grad or not training) for t in Tower}


def test_every_parameter_is_in_one_tower(tiny_model):
    grouped = [name for rows in towers.parameters(tiny_model).values() for name, _ in rows]
    assert sorted(grouped) == sorted(name for name, _ in tiny_model.named_parameters())
    assert sum(counts(tiny_model).values()) == sum(p.numel() for p in tiny_model.parameters())


@pytest.mark.parametrize(
    ("name", "tower"),
    [
        ("model.visual.blocks.0.attn.qkv", Tower.VIT),
        ("model.visual.patch_embed.proj.weight", Tower.VIT),
        ("model.visual.pos_embed.weight", Tower.VIT),
        ("model.visual.merger", Tower.ALIGNER),
        ("model.visual.merger.norm.weight", Tower.ALIGNER),
        ("model.visual.deepstack_merger_list.2.linear_fc1", Tower.ALIGNER),
        ("model.language_model.embed_tokens.weight", Tower.LLM),
        ("model.language_model.layers.3.mlp.up_proj", Tower.LLM),
        ("lm_head", Tower.LLM),
    ],
)
def test_names_with_and_without_what_peft_adds(name, tower):
    assert towers.tower_of(name) is tower
    assert towers.tower_of(f"base_model.model.{name}") is tower
    assert towers.tower_of(f"base_model.model.{name}.modules_to_save.default.weight") is tower
    assert towers.plain(f"base_model.model.{name}") == name


def test_linear_layers_leave_the_head_out(tiny_model):
    assert len(towers.linears(tiny_model, [Tower.LLM])) == 4 * 7
    assert len(towers.linears(tiny_model, [Tower.VIT])) == 6 * 4
    assert len(towers.linears(tiny_model, [Tower.ALIGNER])) == 4 * 2
    assert "lm_head" not in towers.linears(tiny_model, Tower)


def test_the_aligner_is_the_merger_and_each_deepstack_merger(tiny_model):
    names = towers.aligner_modules(tiny_model)
    assert sorted(names) == ["model.visual.deepstack_merger_list." + i for i in "012"] + ["model.visual.merger"]
    inside = sum(p.numel() for name in names for p in tiny_model.get_submodule(name).parameters())
    assert inside == counts(tiny_model)[Tower.ALIGNER]


def test_the_towers_of_the_4b_model(model_4b):
    assert counts(model_4b) == {Tower.VIT: 306_242_560, Tower.ALIGNER: 109_105_152, Tower.LLM: 4_022_468_096}
    assert sum(counts(model_4b).values()) == 4_437_815_808


@pytest.mark.parametrize(
    ("knobs", "modules", "trainable"),
    [
        ({}, 252, 66_060_288),
        ({"freeze_vit": False, "freeze_aligner": False}, 356, 80_543_744),
        ({"modules_to_save": ["aligner"]}, 252, 175_165_440),
    ],
)
def test_what_trains_of_the_4b_model(model_4b, knobs, modules, trainable):
    tuned = tuning.tune(model_4b, TunerConfig(**knobs), seed=17)
    assert len(tuned.targets) == modules
    assert sum(counts(tuned.model, training=True).values()) == trainable
