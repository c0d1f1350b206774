"""Metrics are sums over sums, over micro-batches and ranks."""

from __future__ import annotations

import pytest
import torch

from dvlm.learning.losses import HeadLoss, head_loss
from dvlm.learning.tally import Tally

WORDS, WIDTH = 11, 4


def head(positions: int, *, teacher: bool = True, ce: torch.Tensor | None = None, seed: int = 0) -> HeadLoss:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(WORDS, WIDTH, generator=draw)
    hidden, other = torch.randn(2, positions, WIDTH, generator=draw)
    targets = torch.randint(WORDS, (positions,), generator=draw)
    options = {"teacher_hidden": other, "teacher_weight": weight, "beta": 0.5} if teacher else {}
    return head_loss(hidden, weight, targets, sft_alpha=2.0, ce_mask=ce, **options)


def test_metrics_of_two_batches_are_those_of_all_positions():
    batches = [head(3, seed=1), head(9, seed=2)]
    metrics = (Tally.of(batches[0]) + Tally.of(batches[1])).metrics("eval")
    ce = torch.cat([batch.ce for batch in batches]).double().mean()
    kl = torch.cat([batch.divergence for batch in batches]).double().mean()
    assert metrics["eval/token_count"] == 12
    assert metrics["eval/sft_loss"] == pytest.approx(float(ce))
    assert metrics["eval/kl_loss"] == pytest.approx(float(kl))
    assert metrics["eval/loss"] == pytest.approx(float(2 * ce + 0.5 * kl))
    hits = torch.cat([batch.hit for batch in batches]).double().mean()
    assert metrics["eval/token_accuracy"] == pytest.approx(float(hits))
    assert metrics["eval/teacher_agreement"] == pytest.approx(
        float(torch.cat([batch.agree for batch in batches]).double().mean())
    )


def test_without_a_teacher_there_is_no_divergence():
    assert not any("kl" in name or "teacher" in name for name in Tally.of(head(3, teacher=False)).metrics("train"))


def test_cross_entropy_is_averaged_over_the_positions_that_have_it():
    ce = torch.tensor([True, False, False, True])
    batch = head(4, ce=ce)
    metrics = Tally.of(batch).metrics("train")
    assert metrics["train/sft_loss"] == pytest.approx(float(batch.ce[ce].double().mean()))
    assert metrics["train/kl_loss"] == pytest.approx(float(batch.divergence.double().mean()))
    assert metrics["train/token_count"] == 4


def test_a_step_without_cross_entropy_logs_none():
    metrics = Tally.of(head(4, ce=torch.zeros(4, dtype=torch.bool))).metrics("train")
    assert "train/sft_loss" not in metrics
    assert "train/token_accuracy" not in metrics
    assert "train/kl_loss" in metrics


def test_nothing_seen_is_no_division_by_zero():
    assert Tally.zero(torch.device("cpu")).metrics("eval") == {"eval/token_count": 0.0}
    assert Tally.of(head(0)).metrics("eval") == {"eval/token_count": 0.0}


def test_ranks_add_up():
    tally = Tally.of(head(3))
    both = tally.reduced(lambda sums: 2 * sums)
    assert both.metrics("eval") == pytest.approx(tally.metrics("eval") | {"eval/token_count": 6.0})
