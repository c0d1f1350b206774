"""On a real batch of the tiny model `rlhf=gkd_trl` is TRL's GKD: its formula, written here on full logits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import small_config
from torch.nn.functional import kl_div

from dvlm import assembly
from dvlm.learning.divergence import Divergence
from dvlm.models import forward, prefix
from dvlm.models.prefix import Begun

KNOBS = ("data.sample_limit=2", "data.images_per_user_turn=1", "data.max_pixels=4096", "tuner.lora_rank=4")


@pytest.fixture(scope="module")
def real():
    """A student in float64 that has moved, a batch, and the full logits (S, V) of both, from whole forward passes."""
    config = assembly.prepare(small_config("rlhf=gkd_forward", *KNOBS))
    data = assembly.build_data(config)
    module = assembly.build_module(config, assembly.build_model(config), data)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.05)
    module.double()
    batch = data.first_batch()
    mask, _ = forward.supervised(batch)

    def logits() -> torch.Tensor:
        return forward.core(module.model).lm_head(prefix.finish(module.model, batch, Begun())[mask])

    with torch.no_grad(), module.model.disable_adapter():
        theirs = logits()
    return module, batch, logits(), theirs


def trl(student: torch.Tensor, teacher: torch.Tensor, beta: float, temperature: float) -> torch.Tensor:
    """`GKDTrainer.generalized_jsd_loss` with reduction "sum"."""
    log_student, log_teacher = (each.div(temperature).log_softmax(-1) for each in (student, teacher))
    if beta == 0:
        return kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    if beta == 1:
        return kl_div(log_teacher, log_student, reduction="sum", log_target=True)
    share = torch.tensor(beta, dtype=student.dtype)
    mixture = torch.logsumexp(torch.stack([log_student + torch.log1p(-share), log_teacher + share.log()]), 0)
    to_teacher = kl_div(mixture, log_teacher, reduction="sum", log_target=True)
    return share * to_teacher + (1 - share) * kl_div(mixture, log_student, reduction="sum", log_target=True)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("mix", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_loss_is_that_of_trl(real, mix, temperature):
    module, batch, ours, theirs = real
    knobs = {"beta": 1.0, "sft_alpha": 0.0, "divergence": Divergence.JSD, "jsd_mix": mix, "kd_temperature": temperature}
    module.rlhf = replace(module.rlhf, **knobs)
    expected = trl(ours, theirs, mix, temperature)
    head = module.score(batch, module.train_teacher)
    assert head.loss.dtype == torch.float64
    assert expected > 1e-3
    torch.testing.assert_close(head.loss, expected, rtol=0, atol=1e-6)
