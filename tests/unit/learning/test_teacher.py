"""The teacher is the base, or the model that was named, whatever the student has become."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from support import small_config

from dvlm import assembly, teaching
from dvlm.checks import HealthError
from dvlm.data.datamodule import CaptionDataModule
from dvlm.learning.teacher import AdaptersOff, FrozenModel, Teacher
from dvlm.models import forward, load, prefix
from dvlm.models.prefix import Reach
from dvlm.models.tiny import TinySpec, prepare
from dvlm.models.tuning import Tuned
from dvlm.values import Batch

KNOBS = ("rlhf=gkd_forward", "data.sample_limit=4", "data.max_pixels=16384", "tuner.init_lora_weights=false")
VISION = ("tuner.freeze_vit=false", "tuner.freeze_aligner=false")


@pytest.fixture(scope="module")
def data() -> CaptionDataModule:
    return assembly.build_data(assembly.prepare(small_config(*KNOBS)))


@pytest.fixture(scope="module")
def batch(data) -> Batch:
    return data.first_batch()


def build(data: CaptionDataModule, *knobs: str) -> tuple[Tuned, Teacher]:
    """The student, all of whose trained weights have moved, and its teacher."""
    config = assembly.prepare(small_config(*KNOBS, *knobs))
    tuned = assembly.build_model(config)
    teacher = teaching.build_teacher(config, tuned, data)
    with torch.no_grad():
        for parameter in tuned.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return tuned, teacher


@torch.no_grad()
def states(model: Any, batch: Batch) -> torch.Tensor:
    return forward.hidden_states(model, batch, forward.image_features(model, batch))[forward.supervised(batch)[0]]


@torch.no_grad()
def taught(tuned: Tuned, teacher: Teacher, batch: Batch) -> torch.Tensor:
    begun = prefix.begin(tuned.model, batch, Reach.of(tuned.model))
    return teacher.states(batch, forward.supervised(batch)[0], begun)


@pytest.mark.parametrize(
    ("knobs", "kind"),
    [
        ((), AdaptersOff),
        (VISION, AdaptersOff),
        (("tuner.modules_to_save=[aligner]",), AdaptersOff),
        (("tuner.use_dora=true",), AdaptersOff),
        ((*VISION, "tuner.lora_bias=all"), FrozenModel),
        (("tuner=full", "tuner.freeze_aligner=false", "tuner.init_lora_weights=true"), FrozenModel),
    ],
    ids=["llm", "all-towers", "aligner-whole", "dora", "biases", "full"],
)
def test_the_base_stays_the_base(data, batch, knobs, kind, tiny):
    tuned, teacher = build(data, *knobs)
    assert type(teacher) is kind
    config = assembly.prepare(small_config(*KNOBS)).model
    base = states(load.load_model(config, packing=True), batch)
    torch.testing.assert_close(taught(tuned, teacher, batch), base, rtol=1e-5, atol=1e-5)
    assert (states(tuned.model, batch) - base).abs().max() > 0.01


def test_adapters_are_on_again_after_the_teacher(data, batch):
    tuned, teacher = build(data)
    before = states(tuned.model, batch)
    taught(tuned, teacher, batch)
    assert torch.equal(states(tuned.model, batch), before)


@pytest.mark.parametrize("offload", ["none", "cpu"])
def test_a_teacher_of_another_size(data, batch, cache, offload):
    path = prepare(cache, seed=18, spec=TinySpec(hidden=96, heads=3, kv_heads=1, layers=4))
    tuned, teacher = build(data, f"rlhf.teacher_model={path}", f"rlhf.teacher_offload={offload}")
    assert not teacher.shares
    assert taught(tuned, teacher, batch).shape[1] == 96
    assert teacher.head(torch.device("cpu")).shape[1] == 96
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_a_teacher_with_another_vocabulary_is_refused(data, cache):
    path = prepare(cache, spec=TinySpec(merges=50))
    with pytest.raises(HealthError, match="do not share a vocabulary"):
        build(data, f"rlhf.teacher_model={path}")


def test_a_teacher_with_another_chat_template_is_refused(data, cache, tmp_path):
    path = shutil.copytree(prepare(cache, seed=18, spec=TinySpec(hidden=96, heads=3, kv_heads=1)), tmp_path / "other")
    template = path / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + "bye", encoding="utf-8")
    with pytest.raises(HealthError, match="different chat templates"):
        build(data, f"rlhf.teacher_model={path}")
