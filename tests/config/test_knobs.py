"""Every knob is documented; names, defaults and presets are the agreed ones."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass

import pytest

import dvlm.config
from dvlm.config import ExportConfig, TrainConfig, ValidateConfig, keys, renamed
from dvlm.config.compose import compose
from dvlm.config.overrides import ADDABLE
from dvlm.config.reference import help_text, markdown
from dvlm.config.roots import ROOTS

COMMAND = "python -m dvlm.config.reference > docs/configuration.md"
SCHEMAS = sorted(
    {value for value in vars(dvlm.config).values() if isinstance(value, type) and is_dataclass(value)},
    key=lambda schema: schema.__name__,
)
REAL = ["model=qwen3_vl_4b"]  # the tiny model comes with numbers of its own

# Written by hand: these names and numbers are promised to users.
DEFAULTS = {
    "global_max_length": 4096,
    "seed": 17,
    "debug": False,
    "resume_from": None,
    "model.torch_dtype": "bfloat16",
    "model.attn_impl": "sdpa",
    "model.max_model_len": 4096,
    "tuner.train_type": "lora",
    "tuner.lora_rank": 32,
    "tuner.lora_alpha": 64,
    "tuner.lora_dropout": 0.0,
    "tuner.lora_bias": "none",
    "tuner.use_rslora": False,
    "tuner.use_dora": False,
    "tuner.init_lora_weights": True,
    "tuner.freeze_llm": False,
    "tuner.freeze_vit": True,
    "tuner.freeze_aligner": True,
    "tuner.target_modules": ["all-linear"],
    "tuner.target_regex": None,
    "tuner.modules_to_save": [],
    "tuner.resume_from_checkpoint": None,
    "rlhf.rlhf_type": "none",
    "rlhf.kd_temperature": 1.0,
    "rlhf.max_completion_length": 256,
    "rlhf.temperature": 0.9,
    "rlhf.top_p": 1.0,
    "rlhf.teacher_model": "base",
    "rlhf.divergence": "forward_kl",
    "rlhf.jsd_mix": 0.5,
    "data.images_per_user_turn": 2,
    "data.summary_ratio": 0.0,
    "data.emit_norm": "norm1000",
    "data.object_order": "file",
    "data.user_prompt": "请描述图片中的所有物体",
    "data.sample_limit": None,
    "data.min_pixels": None,
    "data.max_pixels": None,
    "data.truncation": "raise",
    "data.verify_images": "auto",
    "data.packing": True,
    "data.dataloader_num_workers": 0,
    "data.dataloader_pin_memory": False,
    "optim.optimizer": "multimodal",
    "optim.learning_rate": 1e-4,
    "optim.vit_lr": None,
    "optim.aligner_lr": None,
    "optim.weight_decay": 0.1,
    "optim.warmup_ratio": 0.1,
    "optim.lr_scheduler_type": "cosine_warmup_with_min_lr",
    "optim.lr_scheduler_kwargs.min_lr": 1e-6,
    "optim.max_grad_norm": 1.0,
    "trainer.num_train_epochs": 1,
    "trainer.gradient_checkpointing": False,
    "trainer.save_delay_steps": 0,
    "trainer.eval_at_start": True,
    "trainer.metric_for_best_model": "eval/loss",
    "trainer.early_stopping_patience": None,
}
TINY = {
    "model.model": "tiny",
    "model.torch_dtype": "float32",
    "data.train_jsonl": "demo",
    "data.val_jsonl": "demo",
    "data.demo.train": 200,
    "data.demo.val": 40,
    "data.demo.seed": 17,
}
GKD_FORWARD = {
    "rlhf.rlhf_type": "gkd",
    "rlhf.sft_alpha": 1.0,
    "rlhf.beta": 0.1,
    "rlhf.seq_kd": False,
    "rlhf.lmbda": 0.0,
    "rlhf.divergence": "forward_kl",
    "rlhf.kd_temperature": 1.0,
    "rlhf.teacher_model": "base",
}
GKD_SAMPLED = {
    "rlhf.beta": 0.5,
    "rlhf.sft_alpha": 0.3,
    "rlhf.seq_kd": True,
    "rlhf.lmbda": 0.5,
    "rlhf.max_completion_length": 256,
    "rlhf.temperature": 0.9,
}
SFT = {"rlhf.rlhf_type": "none", "rlhf.sft_alpha": 1.0, "rlhf.beta": 0.0, "rlhf.lmbda": 0.0, "rlhf.seq_kd": False}


def value(config, key):
    """`value(config, "rlhf.beta")`."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_every_knob_has_a_meaning(schema):
    assert schema.__doc__
    assert not schema.__doc__.startswith(f"{schema.__name__}(")
    for item in fields(schema):
        if item.default is MISSING and isinstance(item.default_factory, type) and is_dataclass(item.default_factory):
            continue  # a dataclass of its own
        is_group = item.default_factory is not MISSING and is_dataclass(item.default_factory())
        assert is_group or item.metadata.get("doc"), f"{schema.__name__}.{item.name} has no meaning: use knob()"


def test_the_schemas_of_all_verbs_are_public():
    reached = {schema for root in ROOTS.values() for schema in _nested(root)}
    assert reached | set(ROOTS.values()) <= set(SCHEMAS)


def _nested(schema):
    for nested in [*keys.groups_of(schema).values(), *keys.lists_of(schema).values()]:
        yield nested
        yield from _nested(nested)


def test_the_reference_page_is_up_to_date():
    page = keys.CONF.parent / "docs" / "configuration.md"
    assert page.is_file(), f"docs/configuration.md is missing; make it: {COMMAND}"
    assert page.read_text(encoding="utf-8") == markdown(), f"docs/configuration.md is out of date; make it: {COMMAND}"


@pytest.mark.parametrize("verb", ROOTS)
def test_the_reference_page_has_every_knob(verb):
    page = markdown()
    for key, item in keys.knob_paths(ROOTS[verb]):
        if item.metadata.get("doc"):
            assert f"`{item.metadata['spelled'] or key}`" in page


@pytest.mark.parametrize("verb", ROOTS)
def test_help_names_every_group_option_and_root_knob(verb):
    text = help_text(verb)
    for item in fields(ROOTS[verb]):
        assert keys.spelling(ROOTS[verb], item.name) in text
    for group in keys.groups_of(ROOTS[verb]):
        for option in keys.options(group):
            assert f"{group}={option}" in text
    if verb == "train":
        for option in keys.options("experiment"):
            assert f"+experiment={option}" in text


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (REAL, DEFAULTS),
        ([], TINY),
        ([*REAL, "rlhf=gkd_forward"], GKD_FORWARD),
        (["+experiment=gkd_forward"], GKD_FORWARD),
        (["rlhf=gkd"], GKD_SAMPLED),
        (["+experiment=gkd"], GKD_SAMPLED),
        (REAL, SFT),
        (["rlhf=none"], SFT),
    ],
    ids=["defaults", "tiny-demo", "gkd_forward", "experiment", "gkd", "gkd-experiment", "sft", "none"],
)
def test_agreed_numbers(overrides, expected):
    config = compose("train", overrides)
    assert {key: value(config, key) for key in expected} == expected


def test_one_length_knob():
    config = compose("train", ["global_max_length=2048"])
    assert (config.global_max_length, config.model.max_model_len) == (2048, 2048)


def test_prompts_differ_by_mode_and_are_text():
    data = compose("train", []).data
    assert data.system_prompt_dense.strip()
    assert data.system_prompt_summary.strip()
    assert data.system_prompt_dense != data.system_prompt_summary


def test_debug_cuts_the_run_to_two_steps():
    options = ["debug=true", "trainer.eval_steps=5", "trainer.early_stopping_patience=2", "trainer.save_steps=7"]
    config = compose("train", options)
    assert config.effective().trainer.max_steps == 2
    assert config.effective().trainer.logging_steps == 1
    assert config.trainer.max_steps is None, "the composed configuration stays as it is"


def test_without_debug_nothing_is_cut():
    config = compose("train", [])
    assert config.effective() is config


def test_old_names_lead_to_knobs_that_exist():
    known = {key for schema in ROOTS.values() for key, _ in keys.knob_paths(schema)} | {"hydra.run.dir"}
    for old, new in renamed.RENAMED.items():
        assert old not in known
        first = new.split(" ")[0]
        assert first in known or " " in new, f"{old} -> {new}"


@pytest.mark.parametrize("verb", ROOTS)
def test_no_knob_of_a_root_has_the_name_of_a_group(verb):
    """Hydra would look for an option of the group, and refuse every value."""
    plain = {item.name for item in fields(ROOTS[verb])} - set(keys.groups_of(ROOTS[verb]))
    assert not plain & set(keys.groups())


@pytest.mark.parametrize("verb", ROOTS)
def test_only_names_of_groups_are_spelled_otherwise(verb):
    spelled = {item.metadata["spelled"] for item in fields(ROOTS[verb]) if item.metadata.get("spelled")}
    assert spelled <= {*keys.groups(), *ADDABLE}


@pytest.mark.parametrize("schema", [TrainConfig, ValidateConfig, ExportConfig], ids=lambda schema: schema.__name__)
def test_paths_are_marked(schema):
    """A knob whose meaning speaks of a file or directory may hold any text."""
    marked = {key for key, item in keys.knob_paths(schema) if item.metadata.get("path")}
    named = {key for key, _ in keys.knob_paths(schema) if key.endswith(("_jsonl", "_dir", "checkpoint", "output"))}
    assert named <= marked
    assert marked
