"""Samples in one row or side by side: where everything lies, and what has a label."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dvlm.data.collate import Row, collate, lay_out, rows_of
from dvlm.data.encode import IGNORED
from dvlm.values import Mode, Record, Sample, Telemetry, Turn

PAD = 99


def sample(number, length, images, answer):
    """A made-up sample of `length` tokens, the last `answer` of them supervised, with images of one 2x2 patch each."""
    ids = torch.arange(length) + 10 * number
    record = Record(Path("a.jsonl"), number, Path("a.png"), 8, 8, None, "a")
    types = torch.zeros(length, dtype=torch.long)
    types[1 : 1 + images] = 1
    return Sample(
        turn=Turn(0, number, Mode.SUMMARY, (record,)),
        input_ids=ids,
        labels=torch.where(torch.arange(length) >= length - answer, ids, IGNORED),
        mm_token_type_ids=types,
        rope=torch.arange(3 * length).view(3, length) + 100 * number,
        pixel_values=torch.full((4 * images, 5), float(number)) if images else None,
        image_grid_thw=torch.tensor([[1, 2, 2]] * images) if images else None,
        drawn=(),
        answer="a",
    )


SAMPLES = [sample(1, 5, 2, 2), sample(2, 3, 0, 1), sample(3, 6, 1, 3)]


def batch(samples=SAMPLES, **options):
    return collate(samples, **({"packing": True, "pad_id": PAD, "supervised_in_step": 11, "pack": 4} | options))


def test_a_pack_is_one_row_end_to_end():
    packed = batch()
    assert packed.input_ids.tolist() == [[10, 11, 12, 13, 14, 20, 21, 22, 30, 31, 32, 33, 34, 35]]
    assert packed.labels.tolist() == [[*[-100] * 3, 13, 14, -100, -100, 22, *[-100] * 3, 33, 34, 35]]
    assert packed.mm_token_type_ids.tolist() == [[0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]]
    assert packed.cu_seq_lens.tolist() == [0, 5, 8, 14]
    assert packed.cu_seq_lens.dtype == torch.int32
    assert packed.attention_mask is None
    assert packed.max_length == 6
    assert packed.position_ids.shape == (4, 1, 14)
    assert packed.position_ids[0, 0].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3, 4, 5]
    assert packed.position_ids[1:, 0].equal(torch.cat([s.rope for s in SAMPLES], 1))


def test_padded_rows_stand_side_by_side():
    padded = batch(packing=False)
    assert padded.input_ids.tolist() == [
        [PAD, 10, 11, 12, 13, 14],
        [PAD, PAD, PAD, 20, 21, 22],
        [30, 31, 32, 33, 34, 35],
    ]
    assert padded.labels.tolist() == [
        [*[-100] * 4, 13, 14],
        [*[-100] * 5, 22],
        [*[-100] * 3, 33, 34, 35],
    ]
    assert padded.attention_mask.tolist() == [[0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1] * 6]
    assert padded.mm_token_type_ids.tolist() == [[0, 0, 1, 1, 0, 0], [0] * 6, [0, 1, 0, 0, 0, 0]]
    assert padded.cu_seq_lens is None
    assert padded.position_ids.shape == (4, 3, 6)
    assert padded.position_ids[0].tolist() == [[0, 0, 1, 2, 3, 4], [0, 0, 0, 0, 1, 2], [0, 1, 2, 3, 4, 5]]
    for number, one in enumerate(SAMPLES):
        length = len(one.input_ids)
        assert padded.position_ids[1:, number, 6 - length :].equal(one.rope)


def test_both_hold_the_same_tokens_labels_and_pixels():
    packed, padded = batch(), batch(packing=False)
    real = padded.attention_mask.bool()
    assert padded.input_ids[real].equal(packed.input_ids[0])
    assert padded.labels[real].equal(packed.labels[0])
    assert padded.mm_token_type_ids[real].equal(packed.mm_token_type_ids[0])
    assert padded.position_ids[:, real].equal(packed.position_ids[:, 0])
    for one in (packed, padded):
        assert one.pixel_values[:, 0].tolist() == [1.0] * 8 + [3.0] * 4
        assert one.image_grid_thw.tolist() == [[1, 2, 2]] * 3
        assert one.places == ("a.jsonl:1", "a.jsonl:2", "a.jsonl:3")
        assert (one.supervised_in_step, one.pack) == (11, 4)


@pytest.mark.parametrize("packing", [True, False])
def test_the_first_token_of_a_sample_has_no_label(packing):
    """Not even where the sample says so: the last token of its neighbour would have to predict it."""
    all_supervised = [sample(n, 3, 0, 3) for n in (1, 2)]
    labels = batch(all_supervised, packing=packing).labels
    assert labels.flatten().tolist() == [-100, 11, 12, -100, 21, 22]
    assert all_supervised[0].labels.tolist() == [10, 11, 12]


@pytest.mark.parametrize("packing", [True, False])
def test_a_filler_has_no_label(packing):
    filler = batch(packing=packing, filler=True)
    assert (filler.labels == IGNORED).all()
    assert filler.input_ids.equal(batch(packing=packing).input_ids)
    assert filler.pixel_values is not None
    assert batch(packing=packing).telemetry.slots > 0
    assert filler.telemetry == Telemetry()


@pytest.mark.parametrize("packing", [True, False])
def test_samples_without_images(packing):
    plain = batch([sample(1, 3, 0, 1), sample(2, 4, 0, 1)], packing=packing)
    assert plain.pixel_values is None
    assert plain.image_grid_thw is None


def test_one_sample_is_the_same_either_way():
    packed, padded = batch(SAMPLES[:1]), batch(SAMPLES[:1], packing=False)
    for name in ("input_ids", "labels", "mm_token_type_ids", "position_ids", "pixel_values"):
        assert getattr(packed, name).equal(getattr(padded, name)), name


@pytest.mark.parametrize("packing", [True, False])
def test_a_batch_falls_into_the_rows_that_it_was_made_of(packing):
    made = batch(packing=packing)
    rows = rows_of(made, merge=2)
    for found, original in zip(rows, map(Row.of, SAMPLES), strict=True):
        for name, value in vars(original).items():
            if isinstance(value, torch.Tensor):
                assert getattr(found, name).equal(value), name
            elif name != "telemetry":
                assert getattr(found, name) == value, name
    again = lay_out(rows, packing=packing, pad_id=PAD, supervised_in_step=11, pack=4)
    assert again.digests == (), "rows that were written anew are not known to a teacher's cache"
    for name, value in vars(replace(made, digests=())).items():
        assert value.equal(getattr(again, name)) if isinstance(value, torch.Tensor) else value == getattr(again, name)


def test_a_batch_without_images_falls_into_rows_without_them():
    assert all(row.pixel_values is None for row in rows_of(batch(SAMPLES[1:2] * 2), merge=2))
