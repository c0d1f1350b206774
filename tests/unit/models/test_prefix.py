"""What is computed once for student and teacher changes neither losses nor gradients."""

from __future__ import annotations

import pytest
import torch
from support import small_config

from dvlm import assembly
from dvlm.data.datamodule import CaptionDataModule
from dvlm.learning.module import SFTModule
from dvlm.models.prefix import Reach
from dvlm.models.towers import LAYERS
from dvlm.values import Batch

KNOBS = (
    "rlhf=gkd_forward",
    "data.sample_limit=2",
    "data.images_per_user_turn=1",
    "data.max_pixels=9216",
    "rlhf.beta=0.7",
    "tuner.lora_rank=4",
)
LAST = "tuner.last_layers={llm: 2}"
ALIGNER = "tuner.freeze_aligner=false"
WHOLE = "tuner.modules_to_save=[aligner]"
FULL = ("tuner=full", LAST)
VISION = Reach(trunk=True, aligner=True)
LAST_THREE = Reach(trunk=True, aligner=True, layers=3)


@pytest.fixture(scope="module")
def batches() -> dict[bool, Batch]:
    """Two samples of different lengths, packed and padded."""
    knobs = ("data.packing=false", "data.samples_per_pack=2")
    data = {packing: build_data(*(() if packing else knobs)) for packing in (True, False)}
    return {packing: each.first_batch() for packing, each in data.items()}


@pytest.fixture(scope="module")
def data() -> CaptionDataModule:
    return build_data()


def build_data(*knobs: str) -> CaptionDataModule:
    return assembly.build_data(assembly.prepare(small_config(*KNOBS, *knobs)))


def moved(*knobs: str, data: CaptionDataModule) -> SFTModule:
    """A module whose trained weights have moved away from the base."""
    config = assembly.prepare(small_config(*KNOBS, *knobs))
    tuned = assembly.build_model(config)
    module = assembly.build_module(config, tuned, data)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in tuned.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.05)
    return module


def measured(module: SFTModule, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of a batch, all terms on."""
    module.zero_grad()
    head = module.score(batch, module.train_teacher)
    head.loss.backward()
    assert head.kl_sum is not None
    assert head.kl_sum > 0.1
    grads = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return torch.stack([head.loss.detach(), head.sft_sum, head.kl_sum]), grads


CASES = {
    "lora": ((), VISION),
    "last layers": ((LAST, "tuner.use_dora=true"), Reach(trunk=True, aligner=True, layers=2)),
    "a whole layer": (("tuner.target_modules=[]", f"tuner.modules_to_save=[{LAYERS['llm']}.3.mlp]"), LAST_THREE),
    "aligner": ((ALIGNER, "tuner.use_dora=true"), Reach(trunk=True)),
    "aligner whole": ((WHOLE, LAST), Reach(trunk=True)),
    "all towers": (("tuner.freeze_vit=false", ALIGNER), Reach()),
    "full": (FULL, Reach(trunk=True, aligner=True, layers=2)),
}


@pytest.mark.parametrize(("knobs", "reach"), CASES.values(), ids=CASES.keys())
def test_sharing_changes_nothing(data, batches, knobs, reach):
    """Losses and gradients with and without sharing, packed and padded, plain and checkpointed."""
    module = moved(*knobs, data=data)
    assert module.reach == reach
    assert getattr(module.train_teacher, "shares", True)
    for packing, batch in batches.items():
        attention = "packed_sdpa" if packing else "sdpa"
        module.model.config.text_config._attn_implementation = attention
        module.reach = Reach()
        apart = measured(module, batch)
        module.reach = reach
        assert_same(measured(module, batch), apart)
    module.model.activation_checkpointing_enable()
    assert_same(measured(module, batch), apart)


def assert_same(found, expected) -> None:
    """Losses and gradients within 1e-6, gradients by the largest entry of each tensor."""
    torch.testing.assert_close(found[0], expected[0], rtol=1e-6, atol=0)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        limit = 1e-6 * max(float(gradient.abs().max()), 1.0)
        torch.testing.assert_close(
            found[1][name], gradient, rtol=0, atol=limit, msg=lambda m, name=name: f"{name}: {m}"
        )


def passes(module: SFTModule, batch: Batch, name: str) -> list[bool]:
    """For each forward pass of a module of the model: whether it left a graph."""
    seen: list[bool] = []
    part = module.model.get_base_model().model.get_submodule(name)
    handle = part.register_forward_hook(lambda _, __, out: seen.append(out.requires_grad))
    module.score(batch, module.train_teacher)
    handle.remove()
    return seen


def test_what_is_shared_runs_once_and_without_a_graph(data, batches):
    module = moved(LAST, data=data)
    module.model.activation_checkpointing_enable()
    layers = "language_model.layers"
    assert passes(module, batches[True], "visual.merger") == [False]
    assert passes(module, batches[True], f"{layers}.1") == [False]
    assert passes(module, batches[True], f"{layers}.2") == [False, True]
    module = moved(ALIGNER, data=data)
    assert passes(module, batches[True], "visual.blocks.0") == [False]
    assert passes(module, batches[True], "visual.merger") == [False, True]
