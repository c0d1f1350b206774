"""Towers part the model without gap or overlap; test_real_size.py has the numbers of the released 4B."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from dvlm.models import towers
from dvlm.models.towers import Tower


@pytest.fixture(scope="module")
def tiny_model(tiny) -> Qwen3VLForConditionalGeneration:
    return Qwen3VLForConditionalGeneration.from_pretrained(tiny)


def counts(model: torch.nn.Module) -> dict[Tower, int]:
    return {tower: sum(p.numel() for _, p in rows) for tower, rows in towers.parameters(model).items()}


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
