"""The arithmetic against what really happens: bytes of tensors alive in a real step, operations by torch's counter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import small_config
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from dvlm import assembly
from dvlm.costs.estimate import foretold, precision
from dvlm.costs.live import Live
from dvlm.learning.module import SFTModule
from dvlm.models.tiny import TinySpec, prepare
from dvlm.values import Batch

aten = torch.ops.aten
VISION = ("tuner.freeze_vit=false", "tuner.freeze_aligner=false")
GKD = "rlhf=gkd_forward"
SPEC = TinySpec(hidden=192, intermediate=512, layers=3, heads=6, vision_hidden=64, vision_heads=4, vision_depth=5)


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


# Kernels of a CPU that torch's counter leaves out.
CPU = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten.addmm_: lambda this, a, b, *_, **__: 2 * a[0] * a[1] * b[1],
}


class Real:
    """A real step on the CPU."""

    def __init__(self, cache: Any, *knobs: str) -> None:
        path = prepare(cache, spec=SPEC)
        overrides = (f"model.model={path}", "data.sample_limit=4", "data.max_pixels=36864", *knobs)
        self.config = assembly.prepare(small_config(*overrides))
        data = assembly.build_data(self.config)
        self.batch: Batch = data.first_batch()
        tuned = assembly.build_model(self.config)
        self.module: SFTModule = assembly.build_module(self.config, tuned, data)

    def step(self) -> None:
        low = precision(self.config)
        with torch.autocast("cpu", low or torch.bfloat16, enabled=low is not None):
            head = self.module.score(self.batch, self.module.train_teacher)
        head.loss.backward()

    def activations(self) -> int:
        """Bytes at the worst moment beyond weights and gradients."""
        live = Live()
        teacher = getattr(self.module.train_teacher, "model", None)
        live.add(self.module.parameters())
        live.add(teacher.parameters() if teacher is not None else ())
        live.add(value for value in vars(self.batch).values() if isinstance(value, torch.Tensor))
        resident = live.restart()
        with live:
            self.step()
        gradients = sum(p.grad.nbytes for p in self.module.parameters() if p.grad is not None)
        self.module.zero_grad()
        return live.peak - resident - gradients

    def flops(self) -> int:
        """What the counter of torch finds."""
        with FlopCounterMode(display=False, custom_mapping=CPU) as counter:
            self.step()
        return counter.get_total_flops()


@pytest.mark.parametrize(
    "knobs",
    [
        (GKD,),
        (*VISION, GKD, "trainer.gradient_checkpointing=true"),
        ("tuner=full", *VISION),
        pytest.param((*VISION, "model.torch_dtype=bfloat16"), marks=pytest.mark.slow),
        pytest.param(("tuner=dora", "tuner.last_layers={llm: 2}", GKD), marks=pytest.mark.slow),
        pytest.param(("tuner=full", GKD), marks=pytest.mark.slow),
        pytest.param(("tuner.modules_to_save=[aligner]", GKD, "model.torch_dtype=bfloat16"), marks=pytest.mark.slow),
    ],
    ids=lambda knobs: " ".join(knobs),
)
def test_memory_and_operations_of_a_step(knobs, cache):
    real = Real(cache, *knobs)
    told = foretold(real.config, real.batch, cuda=False)
    assert told.activations == pytest.approx(real.activations(), rel=0.1)
    assert told.flops == pytest.approx(real.flops(), rel=0.02)


def test_what_is_counted_of_a_known_computation():
    live = Live()
    with live:
        a = torch.ones(1000, 250)
        b = a.t()
        c = a @ b
        assert (live.now, live.peak) == (4 * (250_000 + 1_000_000), 4 * (250_000 + 1_000_000))
        del c
        assert live.now == 4 * 250_000
    assert live.peak == 4 * 1_250_000
    assert live.flops == 2 * 1000 * 250 * 1000
