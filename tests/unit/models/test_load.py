"""A base model is loaded as asked, or it is said what is wrong with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dvlm.config import ModelConfig
from dvlm.models import load
from dvlm.models.attention import NAME as PACKED_SDPA
from dvlm.models.tiny import prepare
from dvlm.values import InputError


@pytest.fixture
def config(tiny) -> ModelConfig:
    return ModelConfig(model=str(tiny), torch_dtype="float32", max_model_len=1024)


def test_a_model_is_frozen_and_at_rest(config):
    model = load.load_model(config, packing=True)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model.config.text_config._attn_implementation == PACKED_SDPA
    assert model.config.vision_config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("impl", "packing", "text"), [("sdpa", False, "sdpa"), ("eager", True, "eager")])
def test_attention_is_the_one_asked_for(config, impl, packing, text):
    model = load.load_model(replace(config, attn_impl=impl), packing=packing)
    assert model.config.text_config._attn_implementation == text
    assert model.config.vision_config._attn_implementation == impl


def test_bfloat16_leaves_the_rotary_frequencies_alone(config):
    model = load.load_model(replace(config, torch_dtype="bfloat16"), packing=True)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.model.language_model.rotary_emb.inv_freq.dtype == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU it may work")
def test_flash_attention_without_a_gpu(config):
    with pytest.raises(InputError, match="flash_attention_2, but there is no GPU; .* use model.attn_impl=sdpa"):
        load.load_model(replace(config, attn_impl="flash_attention_2", torch_dtype="bfloat16"), packing=True)


def test_what_is_no_model(config, tmp_path):
    with pytest.raises(InputError, match="model.model: .* does not exist"):
        load.resolve(replace(config, model=str(tmp_path / "none")), tmp_path)
    with pytest.raises(InputError, match=r"model.model: .* no config\.json"):
        load.resolve(replace(config, model=str(tmp_path)), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="is a bert, expected a qwen3_vl"):
        load.load_config(str(tmp_path))
    with pytest.raises(InputError, match="no processor in"):
        load.load_processor(str(tmp_path))


def test_a_model_without_weights(config, tmp_path):
    shutil.copytree(config.model, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="model.model: .* cannot be loaded"):
        load.load_model(replace(config, model=str(tmp_path / "m")), packing=True)


def test_weights_that_are_cut_short(config, tmp_path):
    shutil.copytree(config.model, tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="model.model: .* cannot be loaded"):
        load.load_model(replace(config, model=str(tmp_path / "m")), packing=True)


def test_weights_that_are_not_all_there(config, tmp_path):
    """transformers would only warn, and train on random ones."""
    shutil.copytree(config.model, tmp_path / "m")
    weights = load_file(tmp_path / "m" / "model.safetensors")
    del weights["model.visual.merger.norm.weight"]
    save_file(weights, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 weights, such as model\.visual\.merger\.norm\.weight"):
        load.load_model(replace(config, model=str(tmp_path / "m")), packing=True)


def test_pixel_limits_are_the_processors_unless_given(config):
    own = dict(load.load_processor(config.model).image_processor.size)
    assert own["shortest_edge"] == 32 * 32
    changed = load.load_processor(config.model, 64 * 64, 128 * 128).image_processor.size
    assert (changed["shortest_edge"], changed["longest_edge"]) == (64 * 64, 128 * 128)
    with pytest.raises(InputError, match=r"data.min_pixels .* above data.max_pixels"):
        load.load_processor(config.model, max_pixels=100)


def test_a_fingerprint_tells_weights_apart_and_knows_a_copy(cache, tiny, tmp_path):
    copy = tmp_path / "复制 of it"
    shutil.copytree(tiny, copy)
    assert load.fingerprint(str(copy)) == load.fingerprint(str(tiny))
    assert load.fingerprint(str(prepare(cache, seed=18))) != load.fingerprint(str(tiny))
    assert load.fingerprint("Qwen/Qwen3-VL-4B-Instruct") is None


def test_a_fingerprint_sees_a_layer_in_the_middle(tiny, tmp_path, monkeypatch):
    """A merged adapter leaves both ends of the file as they were: embeddings and vision tower."""
    copy = shutil.copytree(tiny, tmp_path / "copy")
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(4096)
    weights.write_bytes(content)
    assert load.fingerprint(str(copy)) != load.fingerprint(str(tiny))
    monkeypatch.setattr(load, "WHOLE", 1 << 16)
    monkeypatch.setattr(load, "STRIDE", 2048)
    monkeypatch.setattr(load, "BLOCK", 64)
    assert load.fingerprint(str(copy)) != load.fingerprint(str(tiny))


def test_a_checkpoint_knows_its_base(cache, tiny, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny, copy)
    load.write_base(tmp_path, str(tiny))
    load.check_base(tmp_path, str(copy), "key")
    load.check_base(tmp_path, "hub/id", "key")
    with pytest.raises(InputError, match="key: .* was trained on .* not on"):
        load.check_base(tmp_path, str(prepare(cache, seed=18)), "key")


def test_hub_ids_are_told_apart_by_name(tmp_path: Path):
    load.write_base(tmp_path, "a/b")
    load.check_base(tmp_path, "a/b", "key")
    with pytest.raises(InputError, match="was trained on a/b"):
        load.check_base(tmp_path, "a/c", "key")
