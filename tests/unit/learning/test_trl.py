"""`gkd_trl` on a real batch: the loss of TRL's GKDTrainer, from full logits by its formula, in double precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import small_config
from test_losses import naive_divergence

from dvlm import assembly
from dvlm.models import forward


@pytest.fixture(scope="module")
def parts():
    options = ("rlhf=gkd_trl", "tuner.init_lora_weights=false", "data.sample_limit=4", "data.max_pixels=16384")
    config = assembly.prepare(small_config(*options, "data.images_per_user_turn=1", "rlhf.lmbda=0"))
    data = assembly.build_data(config)
    module = assembly.build_module(config, assembly.build_model(config), data)
    module.double().eval()
    return module, data.first_batch()


@pytest.fixture(scope="module")
def logits(parts):
    """Student's and teacher's logits (S, V) at the supervised positions."""
    module, batch = parts
    mask = forward.supervised(batch)[0]

    def of() -> torch.Tensor:
        hidden = forward.hidden_states(module.model, batch, forward.image_features(module.model, batch))
        return forward.core(module.model).lm_head(hidden[mask])

    with torch.no_grad():
        student = of()
        with module.model.disable_adapter():
            return student, of()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("mix", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_loss_is_that_of_trl(parts, logits, mix, temperature):
    module, batch = parts
    module.rlhf = replace(module.rlhf, jsd_mix=mix, kd_temperature=temperature)
    with torch.no_grad():
        found = module.score(batch, module.teacher).loss / forward.supervised(batch)[0].sum()
    student, teacher = (each / temperature for each in logits)
    expected = naive_divergence(student, teacher, "jsd", mix).mean()
    assert expected > 1e-3
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
