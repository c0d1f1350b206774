"""Telemetry by hand: what batches add up to, and that a skipped crop reaches the log."""

import json

import pytest
import torch
from support import small_config

from dvlm.assembly import build_data, prepare
from dvlm.train import train
from dvlm.values import Telemetry, generator

ONE = Telemetry(
    slots=10, tokens=6, images=2, fill=0.5, objects=5, kept=3, coverage=2.4, notes=(("b.skipped", 2), ("a", 1))
)
TWO = Telemetry(slots=30, tokens=30, images=1, fill=0.1, objects=0, kept=0, coverage=0.0, notes=(("a", 4),))


def test_sums():
    assert ONE + TWO == Telemetry(
        slots=40, tokens=36, images=3, fill=0.6, objects=5, kept=3, coverage=2.4, notes=(("a", 5), ("b.skipped", 2))
    )
    assert ONE + TWO == TWO + ONE
    assert sum([TWO, TWO], Telemetry()) == Telemetry(slots=60, tokens=60, images=2, fill=0.2, notes=(("a", 8),))


def test_metrics():
    assert (ONE + TWO).metrics() == pytest.approx(
        {
            "data/padding_ratio": 0.1,
            "data/fill_ratio": 0.2,
            "data/kept_objects": 0.6,
            "data/coverage": 0.8,
            "data/a": 5,
            "data/b.skipped": 2,
        }
    )


def test_what_has_nothing_to_count_has_no_entry():
    assert Telemetry().metrics() == {}
    assert TWO.metrics() == pytest.approx({"data/padding_ratio": 0.0, "data/fill_ratio": 0.1, "data/a": 4})
    assert Telemetry(objects=2).metrics() == {"data/kept_objects": 0.0}


def test_draws_depend_on_every_argument_alone():
    draws = [
        generator(*key).integers(2**53)
        for key in [(17, "pairing", 0, 0), (18, "pairing", 0, 0), (17, "mode", 0, 0), (17, "pairing", 1, 0)]
    ]
    draws += [generator(17, "pairing", 0, 1).integers(2**53)]
    assert len(set(draws)) == 5
    assert generator(17, "mode", 0, 0).integers(2**53) == draws[2]


CROP = "{name: random_crop, params: {prob: 1.0, scale: [0.3, 0.5], min_objects: %d, min_coverage: 0.5}}"


def cropping(fewest, *overrides):
    ops = f"augmentation.ops=[{CROP % fewest}, {{name: pad_to_multiple}}]"
    return ops, "data.images_per_user_turn=1", "data.sample_limit=6", "data.packs_per_step=1", *overrides


def by_hand(data):
    """What the records and their drawn augmentation say, pack by pack."""
    found = []
    for pack in data.train_plan.packs:
        turns = [data.train_line.turn(epoch, index) for epoch, index in pack.samples]
        pairs = [pair for turn in turns for pair in zip(turn.records, data.train_line.draw(turn), strict=True)]
        objects = sum(len(record.objects.descs) for record, _ in pairs)
        kept = sum(len(drawn.annotation.descs) for _, drawn in pairs)
        values = {"data/kept_objects": kept / objects}
        if kept:
            values["data/coverage"] = sum(sum(drawn.coverage) for _, drawn in pairs) / kept
        for name in {note for _, drawn in pairs for note in drawn.notes}:
            values[f"data/{name}"] = sum(drawn.notes.count(name) for _, drawn in pairs)
        found.append(values)
    return found


@pytest.mark.parametrize("fewest", [0, 99])
def test_crops_and_skips_reach_the_log(tmp_path, fewest):
    """With 99 objects to keep each crop is skipped; with none to keep, only those that would cut a line."""
    overrides = cropping(fewest, "global_max_length=700", "data.max_pixels=16384", "data.val_jsonl=null")
    config = small_config(*overrides)
    train(config, tmp_path)
    wanted = by_hand(build_data(prepare(config)))
    log = [json.loads(line) for line in (tmp_path / "logging.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row for row in log if "train/loss" in row]
    assert len(steps) == len(wanted)
    for row, expected in zip(steps, wanted, strict=True):
        names = ("data/kept_objects", "data/coverage", "data/random_crop")
        assert {name: value for name, value in row.items() if name.startswith(names)} == pytest.approx(expected)
        assert row["data/padding_ratio"] == 0.0
        assert 0 <= row["data/fill_ratio"] < 1
    skips = {name: sum(row.get(name, 0) for row in steps) for row in steps for name in row if "skipped" in name}
    if fewest:
        assert skips == {"data/random_crop.skipped.min_objects": 6}
        assert {row["data/kept_objects"] for row in steps} == {1.0}
    else:
        assert set(skips) == {"data/random_crop.skipped.line"}
        assert min(row["data/kept_objects"] for row in steps) < 1
        assert min(row["data/coverage"] for row in steps) < 1


def test_padding_and_fill_by_hand():
    """Pictures of 5:4 on square canvases, side by side in padded rows."""
    config = small_config(
        "augmentation.ops=[{name: pad_to_multiple, params: {multiple: 512}}]", "data.packing=false",
        "data.samples_per_pack=4", "data.sample_limit=8", "data.images_per_user_turn=1",
        "global_max_length=2048", "data.val_jsonl=null",
    )  # fmt: skip
    data = build_data(prepare(config))
    for batch in data.train_dataloader():
        rows = [data.train_line.sample(*name) for name in data.train_plan.packs[batch.pack].samples]
        lengths = [len(row.input_ids) for row in rows]
        values = batch.telemetry.metrics()
        assert values["data/padding_ratio"] == pytest.approx(1 - sum(lengths) / (len(rows) * max(lengths)))
        shares = []
        for row in rows:
            (record,), (drawn,) = row.turn.records, row.drawn
            outcome = drawn.annotation
            assert (outcome.width % 512, outcome.height % 512) == (0, 0)
            shares.append(1 - record.width * record.height / (outcome.width * outcome.height))
        assert min(shares) > 0
        assert values["data/fill_ratio"] == pytest.approx(sum(shares) / len(shares))
        assert torch.equal(batch.attention_mask.sum(1), torch.tensor(lengths))
