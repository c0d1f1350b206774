"""What trains is exactly what was asked for."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from dvlm import checks
from dvlm.config import TunerConfig
from dvlm.models import towers, tuning
from dvlm.models.towers import Tower
from dvlm.models.tuning import Tuned
from dvlm.values import InputError

LLM_LAYERS = 4 * 7
VIT_LAYERS = 6 * 4
ALIGNER_LAYERS = 4 * 2
MERGERS = ["model.visual.merger", *(f"model.visual.deepstack_merger_list.{i}" for i in range(3))]


@pytest.fixture(scope="module")
def base(tiny) -> Qwen3VLForConditionalGeneration:
    return Qwen3VLForConditionalGeneration.from_pretrained(tiny)


@pytest.fixture
def tune(base):
    def tune(dtype: torch.dtype = torch.float32, **knobs: object) -> Tuned:
        config = TunerConfig(**{"lora_rank": 4, "lora_alpha": 8} | knobs)
        tuned = tuning.tune(copy.deepcopy(base).to(dtype), config, seed=1)
        checks.check_tuned(tuned)
        return tuned

    return tune


def training(tuned: Tuned) -> list[str]:
    return [towers.plain(name) for name, p in tuned.model.named_parameters() if p.requires_grad]


@pytest.mark.parametrize(
    ("frozen", "count"),
    [
        ({}, LLM_LAYERS),
        ({"freeze_aligner": False}, LLM_LAYERS + ALIGNER_LAYERS),
        ({"freeze_llm": True, "freeze_aligner": False}, ALIGNER_LAYERS),
        ({"freeze_llm": True, "freeze_vit": False}, VIT_LAYERS),
        ({"freeze_vit": False, "freeze_aligner": False}, LLM_LAYERS + VIT_LAYERS + ALIGNER_LAYERS),
    ],
)
def test_all_linear_honours_the_freeze_flags(tune, frozen, count):
    tuned = tune(**frozen)
    assert len(tuned.targets) == count
    assert len(training(tuned)) == 2 * count
    assert not any("lm_head" in name or "pos_embed" in name or "patch_embed" in name for name in training(tuned))
    for tower, flag in ((Tower.LLM, "freeze_llm"), (Tower.VIT, "freeze_vit"), (Tower.ALIGNER, "freeze_aligner")):
        assert tuned.touches(tower) is not getattr(TunerConfig(**frozen), flag)


def test_full_tuning_trains_whole_towers_and_nothing_else(tune):
    tuned = tune(train_type="full", freeze_llm=True, freeze_aligner=False)
    assert not tuned.is_adapter
    assert not tuned.keeps_base
    names = [name for name, _ in tuned.model.named_parameters() if "merger" in name]
    assert training(tuned) == names
    assert tune(train_type="full", freeze_vit=False, freeze_aligner=False).touches(Tower.VIT)


def test_names_match_whole_modules_or_their_last_part(tune):
    tuned = tune(target_modules=["q_proj", "model.language_model.layers.0.mlp.up_proj"])
    assert len(tuned.targets) == 4 + 1
    assert all(name.endswith(("q_proj", "up_proj")) for name in tuned.targets)


def test_a_regex_must_match_the_whole_name_and_does_not_ask_what_is_frozen(tune):
    tuned = tune(target_regex=r"model\.visual\.blocks\.[45]\.attn\.(qkv|proj)")
    assert len(tuned.targets) == 4
    assert tuned.touches(Tower.VIT)
    assert not tuned.touches(Tower.LLM)
    same = tune(target_modules=r"model\.visual\.blocks\.[45]\.attn\.(qkv|proj)")
    assert same.targets == tuned.targets


def test_the_alias_aligner_is_every_merger(tune):
    tuned = tune(modules_to_save=["aligner"])
    assert sorted(tuned.saved) == sorted(MERGERS)
    assert len(tuned.targets) == LLM_LAYERS
    whole = [name for name in training(tuned) if "lora_" not in name]
    assert len(whole) == 4 * 6
    assert all(".modules_to_save.default." in name for name in whole)


def test_what_trains_whole_gets_no_adapter(tune):
    tuned = tune(modules_to_save=["model.visual.merger"], freeze_aligner=False)
    assert len(tuned.targets) == LLM_LAYERS + ALIGNER_LAYERS - 2
    assert not any(name.startswith("model.visual.merger.") for name in tuned.targets)


@pytest.mark.parametrize("none", [{"target_regex": "^$"}, {"target_modules": []}])
def test_no_adapters_but_modules_to_save(tune, none):
    tuned = tune(modules_to_save=["aligner"], **none)
    assert tuned.targets == ()
    assert all("merger" in name for name in training(tuned))
    assert tuned.is_adapter
    with pytest.raises(ValueError, match="nothing would train"):
        TunerConfig(**none)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"target_modules": ["q_porj"]}, "tuner.target_modules: 'q_porj' matches no module; nearest: .*q_proj"),
        ({"target_regex": r".*\.layer\.\d+\.mlp"}, "tuner.target_regex: .* matches no module; nearest: "),
        ({"modules_to_save": ["model.visual.merge"]}, "tuner.modules_to_save: .* nearest: model.visual.merger"),
        ({"modules_to_save": ["alinger"]}, "tuner.modules_to_save: 'alinger' matches no module; nearest: .*aligner"),
        ({"modules_to_save": ["model.visual.deepstack_merger_list"]}, "is a list; name its members"),
        ({"target_modules": ["qkv"]}, "tuner.target_modules: 'qkv' matches no module"),
        ({"target_modules": ["lm_head"]}, "lm_head"),
        ({"target_regex": ".*lm_head"}, "lm_head"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"modules_to_save": ["model.language_model.embed_tokens"]}, "embed_tokens"),
        ({"modules_to_save": ["model.language_model"]}, "tied"),
    ],
)
def test_names_that_fit_nothing_or_cannot_be_merged(tune, knobs, message):
    with pytest.raises(InputError, match=message):
        tune(**knobs)


def test_adapters_are_float32_on_a_bfloat16_base(tune):
    tuned = tune(torch.bfloat16, modules_to_save=["aligner"])
    dtypes = {(p.requires_grad, p.dtype) for p in tuned.model.parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}


def test_adapters_start_from_the_seed_whatever_was_drawn_before(base, tune):
    first = tune()
    torch.rand(7)
    second = tune()
    other = tuning.tune(copy.deepcopy(base), TunerConfig(lora_rank=4), seed=2)
    name = next(name for name, p in first.model.named_parameters() if "lora_A" in name)
    weights = [dict(tuned.model.named_parameters())[name] for tuned in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("bias", "knobs", "count"),
    [
        ("lora_only", {}, 0),
        ("lora_only", {"freeze_vit": False}, VIT_LAYERS),
        ("all", {}, 0),
        ("all", {"freeze_vit": False}, VIT_LAYERS + 6 * 2 + 1),
        ("all", {"freeze_aligner": False, "modules_to_save": ["aligner"]}, 0),
    ],
)
def test_biases_train_where_asked_and_then_the_base_is_not_kept(tune, bias, knobs, count):
    tuned = tune(lora_bias=bias, **knobs)
    assert len(tuned.biases) == count
    assert [n for n in training(tuned) if "lora_" not in n and "modules_to_save" not in n] == list(tuned.biases)
    assert tuned.keeps_base is (count == 0)


def test_the_adapter_settings_reach_peft(tune):
    config = tune(lora_rank=3, lora_alpha=5, lora_dropout=0.25, use_rslora=True, use_dora=True).model.peft_config
    settings = config["default"]
    assert (settings.r, settings.lora_alpha, settings.lora_dropout) == (3, 5, 0.25)
    assert settings.use_rslora
    assert settings.use_dora


def test_what_trains_by_accident_is_found(base):
    """The check behind every test here: a stray parameter that trains is found."""
    tuned = tuning.tune(copy.deepcopy(base), TunerConfig(), seed=1)
    tuned.model.get_base_model().model.visual.pos_embed.weight.requires_grad_(True)
    with pytest.raises(checks.HealthError, match=r"1 parameters train that nobody asked for, such as .*pos_embed"):
        checks.check_tuned(tuned)


def test_last_layers_are_counted_from_the_end(tune):
    tuned = tune(freeze_vit=False, last_layers={"llm": 2, "vit": 1})
    layers = {name.rpartition("layers.")[2].split(".")[0] for name in tuned.targets if "language_model" in name}
    blocks = {name.rpartition("blocks.")[2].split(".")[0] for name in tuned.targets if "visual" in name}
    assert (layers, blocks) == ({"2", "3"}, {"5"})
    assert len(tuned.targets) == 2 * 7 + 1 * 4


def test_last_layers_of_full_tuning(tune):
    names = training(tune(train_type="full", last_layers={"llm": 1}))
    assert names
    assert all(name.startswith("model.language_model.layers.3.") for name in names)


def test_more_last_layers_than_there_are(tune):
    with pytest.raises(InputError, match="last_layers.llm is 9, but llm has 4 layers"):
        tune(last_layers={"llm": 9})


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"last_layers": {"vit": 2}}, "set tuner.freeze_vit=false"),
        ({"last_layers": {"vlt": 2}, "freeze_vit": False}, "did you mean 'vit'"),
        ({"last_layers": {"llm": 0}}, "last_layers.llm is 0"),
        ({"last_layers": {"llm": "4"}}, "expected a number of layers"),
        ({"last_layers": [4]}, "expected a mapping"),
        ({"last_layers": {"llm": 1}, "target_regex": ".*q_proj"}, "both choose layers"),
        ({"lora_dtype": "float16"}, "tuner.lora_dtype is 'float16'"),
        ({"lorap_lr_ratio": 0.0}, "tuner.lorap_lr_ratio is 0.0"),
    ],
)
def test_what_the_tuner_group_refuses(knobs, message):
    with pytest.raises(ValueError, match=message):
        TunerConfig(**knobs)


def test_adapters_are_kept_in_lora_dtype(tune):
    tuned = tune(dtype=torch.bfloat16, lora_dtype="bfloat16", modules_to_save=["aligner"])
    dtypes = {
        ("lora" if ".lora_" in n else "saved", p.dtype) for n, p in tuned.model.named_parameters() if p.requires_grad
    }
    assert dtypes == {("lora", torch.bfloat16), ("saved", torch.float32)}
