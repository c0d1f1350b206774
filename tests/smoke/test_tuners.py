"""Every tuner, with and without the aligner trained whole, on a tied and an untied head: the promises of each.

In process, on a model of a few thousand parameters. Whole runs of some of them are in test_tuner_runs.py.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from support import CACHE, small_config
from tiny_runs import SHORT

from dvlm import assembly, checks
from dvlm.config import ModelConfig, OptimConfig, RlhfConfig, TunerConfig
from dvlm.learning.module import SFTModule
from dvlm.models import adapters, forward, load, ranks, towers, tuning
from dvlm.models.tiny import TinySpec, prepare
from dvlm.models.tuning import Tuned
from dvlm.values import Batch

SPEC = TinySpec(
    hidden=48,
    intermediate=64,
    layers=2,
    head_dim=12,
    vision_hidden=24,
    vision_intermediate=32,
    vision_depth=2,
    vision_heads=3,
    deepstack=(0, 1),
    position_side=8,
)
LINEARS = (*(f"self_attn.{part}_proj" for part in "qkvo"), *(f"mlp.{part}_proj" for part in ("gate", "up", "down")))
LAYERS = [f"model.language_model.layers.{i}.{linear}" for i in range(SPEC.layers) for linear in LINEARS]
MERGERS = ["model.visual.merger", *(f"model.visual.deepstack_merger_list.{i}" for i in range(2))]
MERGER_WEIGHTS = [f"{part}.{kind}" for part in ("norm", "linear_fc1", "linear_fc2") for kind in ("weight", "bias")]
LORA = ("lora_A.default.weight", "lora_B.default.weight")

# Knobs of each kind, what it adds to an adapted layer, and a learning rate with which a few steps are seen.
KINDS: dict[str, tuple[dict[str, Any], tuple[str, ...], float]] = {
    "lora": ({}, LORA, 1e-2),
    "rslora": ({"use_rslora": True}, LORA, 1e-2),
    "dora": ({"use_dora": True}, (*LORA, "lora_magnitude_vector.default.weight"), 1e-2),
    "lora_plus": ({"lorap_lr_ratio": 16.0}, LORA, 1e-3),
    "gaussian": ({"init_lora_weights": "gaussian"}, LORA, 1e-2),
    "orthogonal": ({"init_lora_weights": "orthogonal"}, LORA, 1e-2),
    "pissa": ({"init_lora_weights": "pissa"}, LORA, 3e-3),
    "pissa-fast": ({"init_lora_weights": "pissa_niter_4", "use_rslora": True}, LORA, 3e-3),
    "olora": ({"init_lora_weights": "olora"}, LORA, 3e-3),
    "adalora": ({"train_type": "adalora"}, ("lora_A.default", "lora_B.default", "lora_E.default"), 5e-2),
    "boft": ({"train_type": "boft"}, ("boft_R.default", "boft_s.default"), 1e-2),
    "fourierft": ({"train_type": "fourierft", "fourier_n_frequency": 100}, ("fourierft_spectrum.default",), 1e-1),
    "vera": ({"train_type": "vera", "vera_rank": 16}, ("vera_lambda_b.default", "vera_lambda_d.default"), 1e-1),
    "full": ({"train_type": "full"}, (), 1e-3),
}
# Ways to start or to step that change neither names nor files: once is enough.
VARIANTS = ("lora_plus", "gaussian", "orthogonal", "pissa-fast")
MATRIX = [
    (kind, whole, tied)
    for kind in KINDS
    for whole in (False, True)
    for tied in (True, False)
    if kind not in VARIANTS or (tied and not whole)
]
BF16_KL, BF16_AGREEMENT = 2e-3, 0.95  # mean nats a token, share of positions with the same likeliest word


@cache
def base(tied: bool, dtype: str = "float32") -> Any:
    model = str(prepare(CACHE, spec=SPEC, tie=tied))
    return load.load_model(ModelConfig(model=model, torch_dtype=dtype, max_model_len=512), packing=True)


@pytest.fixture(scope="module")
def batch() -> Batch:
    model = prepare(CACHE, spec=SPEC)
    config = assembly.prepare(small_config(*SHORT, "data.max_pixels=4096", f"model.model={model}"))
    return assembly.build_data(config).first_batch()


def tuned_as(tied: bool, kind: str, whole: bool, **more: Any) -> Tuned:
    knobs = KINDS[kind][0] | more
    if whole:
        knobs |= {"freeze_aligner": False} if kind == "full" else {"modules_to_save": ["aligner"]}
    return tuning.tune(copy.deepcopy(base(tied)), TunerConfig(**{"lora_rank": 4, "lora_alpha": 8} | knobs), seed=1)


class Loop:
    """Optimizer steps as a run makes them, with a checkpoint as a run writes it."""

    def __init__(self, tuned: Tuned, kind: str) -> None:
        config = OptimConfig(learning_rate=KINDS[kind][2], lr_scheduler_type="constant_with_warmup", warmup_ratio=0)
        ratio = KINDS[kind][0].get("lorap_lr_ratio")
        self.module = SFTModule(
            tuned, optim_config=config, rlhf=RlhfConfig(), steps=5, accumulation=1, seed=1, lorap_lr_ratio=ratio
        )
        self.optimizer = self.module.configure_optimizers()["optimizer"]
        self.model, self.step = tuned.model, 0
        self.allocates = ranks.are_allocated(self.model)
        if self.allocates:
            ranks.set_schedule(self.model, 5, start_ratio=0.1, final_ratio=0.3)

    def run(self, batch: Batch, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = self.module.score(batch, None).loss / batch.supervised_in_step
            loss.backward()
            if self.allocates:
                ranks.regulariser(self.model).backward()
            self.optimizer.step()
            self.step += 1
            if self.allocates:
                ranks.allocate(self.model, self.step)
            losses.append(float(loss))
        return losses

    def saved(self) -> dict[str, Any]:
        checkpoint = {"state_dict": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}
        self.module.on_save_checkpoint(checkpoint)
        checkpoint["ranks"] = ranks.state(self.model) if self.allocates else {}
        return copy.deepcopy(checkpoint | {"step": self.step})

    def resume(self, checkpoint: dict[str, Any]) -> Loop:
        self.module.on_load_checkpoint(checkpoint)
        self.module.load_state_dict(checkpoint["state_dict"], strict=False)
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.step = checkpoint["step"]
        if self.allocates:
            ranks.restore(self.model, checkpoint["ranks"])
        return self


@torch.no_grad()
def logits(model: Any, batch: Batch) -> torch.Tensor:
    hidden = forward.hidden_states(model, batch, forward.image_features(model, batch))
    return (hidden @ forward.core(model).lm_head.weight.T).float()


@cache
def base_logits(tied: bool, batch: Batch) -> torch.Tensor:
    return logits(base(tied), batch)


def promised(kind: str, whole: bool) -> set[str]:
    """The names that may train, from the knobs alone."""
    inner = "modules_to_save.default." if kind != "full" else ""
    aligner = {f"{merger}.{inner}{weight}" for merger in MERGERS for weight in MERGER_WEIGHTS} if whole else set()
    if kind == "full":
        llm = {name for name, _ in base(True).named_parameters() if "visual" not in name}
        return llm | aligner
    return {f"{layer}.{part}" for layer in LAYERS for part in KINDS[kind][1]} | aligner


def trainable(tuned: Tuned) -> set[str]:
    return {towers.plain(name) for name, parameter in tuned.model.named_parameters() if parameter.requires_grad}


def name_of(value: Any) -> str:
    return value if isinstance(value, str) else str(value).lower()


@pytest.mark.parametrize(("kind", "whole", "tied"), MATRIX, ids=name_of)
def test_tuner(kind, whole, tied, batch, tmp_path):
    tuned = tuned_as(tied, kind, whole)
    checks.check_tuned(tuned)
    names = promised(kind, whole)
    assert trainable(tuned) == (names | {"lm_head.weight"} if kind == "full" and not tied else names)

    untouched = base_logits(tied, batch)
    loop = Loop(tuned, kind)
    tolerance = 0 if kind in ("lora", "gaussian") else 1e-5
    assert (logits(tuned.model, batch) - untouched).abs().max() <= tolerance
    losses = loop.run(batch, 2)
    checkpoint = loop.saved()
    losses += loop.run(batch, 1)
    assert losses[2] < losses[0]

    resumed = Loop(tuned_as(tied, kind, whole), kind).resume(checkpoint)
    assert resumed.run(batch, 1) == losses[2:]
    ours, theirs = resumed.saved(), loop.saved()
    for name, weight in theirs["state_dict"].items():
        assert torch.equal(weight, ours["state_dict"][name]), name

    adapted = logits(tuned.model, batch)
    assert (adapted - untouched).abs().max() > 1e-2
    if tuned.is_adapter:
        with tuned.model.disable_adapter():
            assert torch.equal(logits(tuned.model, batch), untouched)
        check_file(tuned, batch, adapted, tied, tmp_path)


def check_file(tuned: Tuned, batch: Batch, adapted: torch.Tensor, tied: bool, directory: Path) -> None:
    """What is saved loads in plain peft on the base, and merges."""
    adapters.save(tuned.model, directory)
    read = PeftModel.from_pretrained(copy.deepcopy(base(tied)), directory).eval()
    assert (logits(read, batch) - adapted).abs().max() <= 1e-5
    merged = adapters.merged(read)
    assert not any("default" in name for name, _ in merged.named_modules())
    assert (logits(merged, batch) - adapted).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "full" and kind not in VARIANTS])
def test_a_merge_in_bfloat16_moves_little(kind, batch, tmp_path):
    loop = Loop(tuned_as(True, kind, False), kind)
    loop.run(batch, 3)
    adapters.save(loop.model, tmp_path)
    read = PeftModel.from_pretrained(copy.deepcopy(base(True, "bfloat16")), tmp_path).eval()
    adapted = logits(read, batch).log_softmax(-1)
    merged = logits(adapters.merged(read), batch).log_softmax(-1)
    assert float((adapted.exp() * (adapted - merged)).sum(-1).mean()) <= BF16_KL
    assert float((adapted.argmax(-1) == merged.argmax(-1)).float().mean()) >= BF16_AGREEMENT


@pytest.mark.parametrize(
    ("knobs", "pattern"),
    [
        ({"last_layers": {"llm": 1}}, r"model\.language_model\.layers\.1\..*"),
        ({"freeze_vit": False, "freeze_llm": True, "last_layers": {"vit": 1}}, r"model\.visual\.blocks\.1\..*"),
        ({"target_regex": r".*\.q_proj"}, r".*\.q_proj\..*"),
        ({"target_regex": "^$", "modules_to_save": ["aligner"]}, r".*merger.*modules_to_save.*"),
        ({"freeze_llm": True, "freeze_aligner": False}, r".*merger.*lora_.*"),
    ],
    ids=["last-llm", "last-vit", "regex", "aligner-whole", "aligner-lora"],
)
def test_selections(knobs, pattern, batch, tmp_path):
    tuned = tuned_as(True, "lora", False, **knobs)
    checks.check_tuned(tuned)
    assert trainable(tuned)
    assert all(re.fullmatch(pattern, name) for name in trainable(tuned))
    losses = Loop(tuned, "lora").run(batch, 3)
    assert losses[2] < losses[0]
    check_file(tuned, batch, logits(tuned.model, batch), True, tmp_path)


def test_adalora_cuts_ranks_to_its_target(batch):
    loop = Loop(tuned_as(True, "adalora", False), "adalora")
    loop.run(batch, 5)
    left = ranks.of_modules(loop.model)
    assert set(left) == set(LAYERS)
    assert sum(left.values()) <= 2 * len(LAYERS)
    assert len(set(left.values())) > 1


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_adalora_in_a_run_of_few_steps(steps, batch):
    """Such as `debug=true` makes them: ranks are cut to the target, by a single step part of the way."""
    loop = Loop(tuned_as(True, "adalora", False), "adalora")
    ranks.set_schedule(loop.model, steps, start_ratio=0.1, final_ratio=0.3)
    loop.run(batch, steps)
    left = sum(ranks.of_modules(loop.model).values())
    assert 2 * len(LAYERS) < left < 4 * len(LAYERS) if steps == 1 else left <= 2 * len(LAYERS)


def test_the_start_is_kept_where_another_machine_would_decompose_otherwise(batch):
    """A resumed run takes the starting product from the checkpoint, not from its own decomposition."""
    loop = Loop(tuned_as(True, "pissa", False), "pissa")
    loop.run(batch, 1)
    checkpoint = loop.saved()
    fresh = Loop(tuned_as(True, "pissa", False), "pissa")
    with torch.no_grad():
        for name, buffer in fresh.model.named_buffers():
            if name.endswith("start_A"):
                buffer.neg_()
    assert fresh.resume(checkpoint).run(batch, 1) == loop.run(batch, 1)


def test_pissa_saves_a_lora_of_twice_the_rank_and_alpha(tmp_path):
    tuned = tuned_as(True, "pissa", False)
    adapters.save(tuned.model, tmp_path)
    settings = PeftModel.from_pretrained(copy.deepcopy(base(True)), tmp_path).peft_config["default"]
    assert (settings.r, settings.lora_alpha, settings.init_lora_weights) == (8, 16, True)
    with pytest.raises(adapters.InputError, match="has r 8, this run 4"):
        adapters.start_from(tuned.model, tmp_path)


@pytest.fixture
def refused() -> Callable[..., None]:
    def refused(message: str, **knobs: Any) -> None:
        with pytest.raises(adapters.InputError, match=message):
            tuned_as(True, "lora", False, **knobs)

    return refused


def test_layers_that_a_kind_cannot_adapt(refused):
    refused("tuner.boft_block_size is 5, but .*q_proj has 48 inputs", train_type="boft", boft_block_size=5)
    refused(
        "tuner.fourier_n_frequency is 9999, but .*q_proj has 2304", train_type="fourierft", fourier_n_frequency=9999
    )
    refused("init_lora_weights=pissa .* lora_rank is 64", init_lora_weights="pissa", lora_rank=64)
