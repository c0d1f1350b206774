"""Losses by group are those of the samples in the group, however the batch is laid out; telemetry is added beside."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dvlm.data.collate import collate
from dvlm.learning.losses import HeadLoss, head_loss
from dvlm.learning.meter import Meter
from dvlm.models import forward
from dvlm.values import Batch, Sample

WORDS, WIDTH = 13, 5
GROUPS = ("站甲", "站乙", "dense", "summary", "空")
# (source, mode, tokens, supervised): a sample without a source, one of a single token, one whose answer is all of it.
SAMPLES = [
    ("站甲", "dense", 9, 4),
    ("站乙", "summary", 5, 2),
    ("站甲", "summary", 6, 6),
    ("", "dense", 12, 7),
    ("站乙", None, 3, 1),
]


def sample(number: int) -> Sample:
    """Random tokens, the last of them supervised."""
    source, mode, tokens, supervised = SAMPLES[number]
    ids = torch.randint(WORDS, (tokens,), generator=torch.Generator().manual_seed(number))
    labels = torch.where(torch.arange(tokens) >= tokens - supervised, ids, -100)
    turn: Any = SimpleNamespace(records=(), source=source, mode=mode, place=f"a.jsonl:{number + 1}")
    rope = torch.arange(tokens).expand(3, -1)
    return Sample(turn, ids, labels, torch.zeros_like(ids), rope, None, None, (), "")


def batch_of(numbers: list[int], *, packing: bool, filler: bool = False) -> Batch:
    samples = [sample(number) for number in numbers]
    return collate(samples, packing=packing, pad_id=0, supervised_in_step=1, pack=0, filler=filler)


WEIGHT, TEACHER = torch.randn(2, WORDS, WIDTH, generator=torch.Generator().manual_seed(99)).unbind()


def scored(batch: Batch, *, teacher: bool = True, ce_of: set[int] | None = None) -> HeadLoss:
    """The loss of a model whose hidden state is a function of token and position in the sample."""
    table = torch.randn(WORDS, 20, WIDTH, generator=torch.Generator().manual_seed(98))
    mask, targets = forward.supervised(batch)
    hidden = table[batch.input_ids, batch.position_ids[0]][mask]
    options: dict[str, Any] = {"teacher_hidden": hidden, "teacher_weight": TEACHER, "beta": 0.5} if teacher else {}
    if ce_of is not None:
        numbers = [int(place.rpartition(":")[2]) - 1 for place in batch.places]
        has = torch.tensor([number in ce_of for number in numbers])
        options["ce_mask"] = has[forward.sample_of_positions(batch)]
    return head_loss(hidden, WEIGHT, targets, **options)


def meter(batch: Batch, groups: tuple[str, ...] = GROUPS, **options: Any) -> Meter:
    return Meter.of(scored(batch, **options), batch, groups)


def metrics(found: Meter, prefix: str = "train", groups: tuple[str, ...] = GROUPS) -> dict[str, float]:
    return found.metrics(prefix, lambda sums: sums, groups)


def naive(prefix: str, ce_of: set[int] | None = None) -> dict[str, float]:
    """Each sample alone, softmax and all by hand, then averaged over the tokens of its groups."""
    sums: dict[str, list[float]] = {}
    for number, (source, mode, _, _) in enumerate(SAMPLES):
        alone = sample(number)
        table = torch.randn(WORDS, 20, WIDTH, generator=torch.Generator().manual_seed(98)).double()
        for at in range(1, len(alone.input_ids)):
            if alone.labels[at] == -100:
                continue
            state = table[alone.input_ids[at - 1], at - 1]
            ours, theirs = (torch.log_softmax(state @ head.double().T, 0) for head in (WEIGHT, TEACHER))
            kl = float((theirs.exp() * (theirs - ours)).sum())
            ce = -float(ours[alone.labels[at]])
            for name in filter(None, (source, mode)):
                row = sums.setdefault(name, [0.0, 0, 0.0, 0])
                if ce_of is None or number in ce_of:
                    row[0], row[1] = row[0] + ce, row[1] + 1
                row[2], row[3] = row[2] + kl, row[3] + 1
    losses = {f"{prefix}/sft_loss/{name}": row[0] / row[1] for name, row in sums.items() if row[1]}
    return losses | {f"{prefix}/kl_loss/{name}": row[2] / row[3] for name, row in sums.items()}


def by_group(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name.count("/") == 2}


LAYOUTS = {
    "one pack": ([[0, 1, 2, 3, 4]], True),
    "another order": ([[3, 1, 4, 0, 2]], True),
    "padded": ([[0, 1, 2, 3, 4]], False),
    "three packs": ([[2, 0], [4], [1, 3]], True),
    "three padded": ([[2, 0], [4], [1, 3]], False),
}


@pytest.mark.parametrize(("numbers", "packing"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_groups_are_those_of_the_samples(numbers, packing):
    total = sum((meter(batch_of(each, packing=packing)) for each in numbers), Meter())
    found = by_group(metrics(total, "eval"))
    assert found == pytest.approx(naive("eval"), rel=1e-5)
    assert len(found) == 8
    assert found["eval/sft_loss/站甲"] != pytest.approx(found["eval/sft_loss/站乙"], rel=1e-2)


@pytest.mark.parametrize("packing", [True, False])
def test_cross_entropy_counts_only_where_there_is_some(packing):
    """A group without any logs none, as the whole step does; its divergence is logged all the same."""
    found = by_group(metrics(meter(batch_of([0, 1, 2, 3, 4], packing=packing), ce_of={0, 3})))
    assert found == pytest.approx(naive("train", ce_of={0, 3}), rel=1e-5)
    assert {"train/sft_loss/dense", "train/kl_loss/站乙"} <= set(found)
    assert "train/sft_loss/站乙" not in found


def test_one_group_of_everything_is_the_whole():
    batch = batch_of([0, 2], packing=True)
    values = metrics(meter(batch, ("站甲",)), groups=("站甲",))
    assert values["train/sft_loss/站甲"] == pytest.approx(values["train/sft_loss"], rel=1e-6)
    assert values["train/kl_loss/站甲"] == pytest.approx(values["train/kl_loss"], rel=1e-6)


def test_without_a_teacher_no_group_has_a_divergence():
    found = by_group(metrics(meter(batch_of([0, 1], packing=True), teacher=False)))
    assert set(found) == {f"train/sft_loss/{name}" for name in ("站甲", "站乙", "dense", "summary")}


def test_a_filler_counts_in_no_group():
    whole = meter(batch_of([0, 1], packing=True))
    filled = whole + meter(batch_of([3], packing=True, filler=True))
    assert by_group(metrics(filled)) == by_group(metrics(whole))


def test_ranks_add_up():
    """Sums over sums: a rank with few tokens weighs little."""
    ranks = [meter(batch_of(numbers, packing=True)) for numbers in ([0, 3, 2], [1, 4])]
    calls = []

    def total(sums: torch.Tensor) -> torch.Tensor:
        calls.append(sums)
        return sums + {2: ranks[1].by_group, 1: stacked(ranks[1])}[sums.ndim]

    found = ranks[0].metrics("eval", total, GROUPS)
    assert by_group(found) == pytest.approx(naive("eval"), rel=1e-5)
    assert found["eval/token_count"] == 19
    assert len(calls) == 2


def stacked(of: Meter) -> torch.Tensor:
    return torch.stack([getattr(of.tally, name) for name in of.tally.__dataclass_fields__])


@pytest.mark.parametrize("packing", [True, False])
def test_coordinates_and_text_are_told_apart(packing):
    """Every third token is a digit of a coordinate: the two groups are the parts of the whole."""
    plain = [batch_of(numbers, packing=packing) for numbers in ([0, 1, 2], [3, 4])]
    marked = [
        replace(batch, coordinates=torch.where(batch.labels != -100, batch.input_ids % 3 == 0, False))
        for batch in plain
    ]
    found = metrics(sum((meter(batch, ()) for batch in marked), Meter()), "eval", ())
    for term in ("sft_loss", "kl_loss"):
        values: dict[bool, list[float]] = {True: [], False: []}
        for batch in marked:
            head = scored(batch)
            column = head.ce if term == "sft_loss" else head.divergence
            for target, value in zip(forward.supervised(batch)[1].tolist(), column.tolist(), strict=True):
                values[target % 3 == 0].append(value)
        assert len(values[True]) >= 3
        assert found[f"eval/{term}/coord"] == pytest.approx(np.mean(values[True]), rel=1e-5)
        assert found[f"eval/{term}/text"] == pytest.approx(np.mean(values[False]), rel=1e-5)


def test_without_coordinates_all_is_text_and_not_logged_twice():
    assert not by_group(metrics(meter(batch_of([0], packing=True), ()), groups=()))


def test_an_empty_meter():
    assert Meter().metrics("train", lambda sums: sums, GROUPS) == {}
    one = meter(batch_of([0], packing=True))
    assert metrics(Meter() + one) == metrics(one + Meter()) == metrics(one)


def test_telemetry_is_added_and_logged_in_training_only():
    batch = batch_of([0, 1], packing=False)
    assert (batch.telemetry.slots, batch.telemetry.tokens) == (18, 14)
    noted = replace(
        batch, telemetry=replace(batch.telemetry, images=2, fill=0.5, notes=(("random_crop.skipped.line", 2),))
    )
    twice = meter(noted) + meter(noted)
    assert twice.telemetry == noted.telemetry + noted.telemetry
    values = metrics(twice)
    assert values["data/random_crop.skipped.line"] == 4
    assert values["data/fill_ratio"] == pytest.approx(0.25)
    assert values["data/padding_ratio"] == pytest.approx(4 / 18)
    assert not any(name.startswith("data/") for name in metrics(twice, "eval"))
    assert all(math.isfinite(value) for value in values.values())


def test_a_sample_belongs_to_its_source_and_its_mode():
    assert batch_of([0, 3, 4], packing=True).groups == (("站甲", "dense"), ("dense",), ("站乙",))
