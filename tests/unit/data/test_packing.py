"""Packing truth, on the tiny model: what shares a row does not see each other, neither in losses nor in gradients."""

from dataclasses import replace

import datakit
import pytest
import torch
from support import small_config

from dvlm.data.collate import collate
from dvlm.data.index import RecordFile
from dvlm.learning.losses import head_loss
from dvlm.models import forward, load, tuning

NEAR = 1e-5  # relative


@pytest.fixture(scope="module")
def samples(demo_files, tiny):
    """Four samples of different lengths, modes and numbers of images."""
    parts = list(RecordFile(demo_files[0]))
    small = datakit.encoder(tiny, max_pixels=128 * 128)
    dense = datakit.line(parts, tiny, encoding=small)
    summary = datakit.line(parts[:7], tiny, encoding=small, summary_ratio=1.0, images_per_user_turn=3)
    return [dense.sample(0, 3), summary.sample(0, 2), dense.sample(1, 0), summary.sample(0, 0)]


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request, tiny):
    """A model of either attention with adapters on every tower that are not at their start."""
    config = small_config("tuner.freeze_vit=false", "tuner.freeze_aligner=false", f"model.attn_impl={request.param}")
    base = load.load_model(replace(config.model, model=str(tiny)), packing=True)
    assert base.config.text_config._attn_implementation == {"sdpa": "packed_sdpa"}.get(request.param, request.param)
    tuned = tuning.tune(base, config.tuner, seed=1)
    dice = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in tuned.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=dice) * 0.05)
    return tuned.model


def batch(samples, packing):
    return collate(samples, packing=packing, pad_id=0, supervised_in_step=1, pack=0)


def states(model, one):
    """Hidden states (B, L, H) of a batch."""
    return forward.hidden_states(model, one, forward.image_features(model, one))


def loss(model, one):
    """The fused loss of a batch: cross-entropy of each supervised token."""
    mask, targets = forward.supervised(one)
    return head_loss(states(model, one)[mask], forward.core(model).lm_head.weight, targets)


def scored(model, batches):
    """The losses (S,) of all supervised tokens, and the gradients of their sum, after one pass a batch."""
    model.zero_grad()
    losses = []
    for one in batches:
        head = loss(model, one)
        head.loss.backward()
        losses.append(head.ce)
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    return torch.cat(losses), gradients


def far(found, wanted):
    """The largest difference, relative to the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.fixture(scope="module")
def alone(model, samples):
    return scored(model, [batch([sample], packing=False) for sample in samples])


@pytest.mark.parametrize("packing", [True, False])
def test_losses_and_gradients_equal_those_of_samples_alone(model, samples, alone, packing):
    losses, gradients = scored(model, [batch(samples, packing)])
    assert len(losses) == sum(int((sample.labels != -100).sum()) for sample in samples)
    assert far(losses, alone[0]) < NEAR
    assert {name.split(".lora_")[0] for name in gradients} >= {"base_model.model.model.visual.merger.linear_fc1"}
    for name, gradient in gradients.items():
        assert gradient.norm() > 0, name
        assert (gradient - alone[1][name]).norm() / alone[1][name].norm() < NEAR, name


def test_hidden_states_equal_those_of_samples_alone(model, samples):
    packed, padded = batch(samples, True), batch(samples, False)
    with torch.no_grad():
        wanted = torch.cat([states(model, batch([sample], False))[0] for sample in samples])
        assert far(states(model, packed)[0], wanted) < NEAR
        assert far(states(model, padded)[padded.attention_mask.bool()], wanted) < NEAR


def test_a_pack_without_its_borders_is_noticed(model, samples, alone):
    """The comparison above would fail if samples saw each other."""
    packed = batch(samples, True)
    length = packed.input_ids.shape[1]
    positions = torch.cat([torch.arange(length).view(1, 1, -1), packed.position_ids[1:]])
    mixed = replace(packed, cu_seq_lens=torch.tensor([0, length], dtype=torch.int32), position_ids=positions)
    with torch.no_grad():
        losses = loss(model, mixed).ce
    assert far(losses, alone[0]) > 100 * NEAR
    first = int((samples[0].labels != -100).sum())
    assert far(losses[:first], alone[0][:first]) < NEAR


def test_the_order_in_a_pack_does_not_matter(model, samples, alone):
    with torch.no_grad():
        losses = loss(model, batch(samples[::-1], True)).ce
    counts = [int((sample.labels != -100).sum()) for sample in samples]
    wanted = torch.cat(alone[0].split(counts)[::-1])
    assert far(losses, wanted) < NEAR


def test_a_filler_pack_adds_nothing(model, samples):
    filler = collate(samples[:1], packing=True, pad_id=0, supervised_in_step=1, pack=0, filler=True)
    losses, gradients = scored(model, [filler])
    assert len(losses) == 0
    assert all(not gradient.any() for gradient in gradients.values())
