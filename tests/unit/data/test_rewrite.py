"""Prompts with new answers: the very ids, positions that go on, nothing but the answer supervised."""

from __future__ import annotations

import json

import pytest
import torch
from datakit import line

from dvlm.data.collate import collate
from dvlm.data.encode import IGNORED, RopeIndex
from dvlm.data.index import RecordFile
from dvlm.data.rewrite import Rewriter
from dvlm.values import Completion

LONGEST = 2048


@pytest.fixture(scope="module")
def source(tiny, demo_files):
    return line(RecordFile(demo_files[0], None), tiny)


def rewriter(source, **changes) -> Rewriter:
    options = {"packing": True, "samples_per_pack": 2, "max_length": LONGEST} | changes
    return Rewriter(tokenizer=source.encoder.processor.tokenizer, merge=2, **options)


def batch_of(source, *indices: int, packing: bool = True, filler: bool = False):
    samples = [source.sample(0, index) for index in indices]
    return collate(
        samples,
        packing=packing,
        pad_id=source.encoder.processor.tokenizer.pad_token_id,
        supervised_in_step=1,
        pack=3,
        filler=filler,
    )


def said(source, text: str, *, finished: bool = True) -> Completion:
    tokenizer = source.encoder.processor.tokenizer
    ids = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] * finished
    return Completion(torch.tensor(ids), finished)


@pytest.mark.parametrize("packing", [True, False])
def test_prompts_are_those_of_the_samples(source, packing):
    batch = batch_of(source, 0, 1, packing=packing)
    for prompt, index in zip(rewriter(source).prompts(batch), (0, 1), strict=True):
        sample = source.sample(0, index)
        end = int((sample.labels != IGNORED).nonzero()[0])
        assert prompt.input_ids.equal(sample.input_ids[:end])
        assert prompt.mm_token_type_ids.equal(sample.mm_token_type_ids[:end])
        assert prompt.pixel_values.equal(sample.pixel_values)
        assert prompt.image_grid_thw.equal(sample.image_grid_thw)


def test_a_filler_asks_nothing(source):
    assert rewriter(source).prompts(batch_of(source, 0, filler=True)) == []


@pytest.mark.parametrize("packing", [True, False])
def test_the_own_answers_given_back_make_the_same_batch(source, packing):
    batch = batch_of(source, 0, 1, packing=packing)
    samples = [source.sample(0, index) for index in (0, 1)]
    answers = [Completion(sample.input_ids[sample.labels != IGNORED], True) for sample in samples]
    (again,) = rewriter(source, packing=packing).packs([batch], [answers])
    for name in ("input_ids", "labels", "mm_token_type_ids", "position_ids", "coordinates", "pixel_values"):
        assert getattr(again, name).equal(getattr(batch, name)), name
    assert again.places == batch.places
    assert again.groups == batch.groups
    assert again.telemetry == batch.telemetry


def test_another_answer_is_kept_as_it_is(source):
    """Also one that its tokenizer would have cut in other places: the ids of single characters."""
    tokenizer = source.encoder.processor.tokenizer
    text = json.dumps({"图片_1": [{"bbox_2d": [1, 20, 300, 400], "desc": "标签"}]}, ensure_ascii=False)
    ids = [token for letter in text for token in tokenizer(letter)["input_ids"]]
    assert ids != tokenizer(text)["input_ids"]
    (batch,) = rewriter(source).packs([batch_of(source, 0)], [[Completion(torch.tensor(ids), False)]])
    supervised = batch.labels[0] != IGNORED
    assert batch.labels[0, supervised].tolist() == ids
    assert tokenizer.eos_token_id not in batch.labels[0].tolist()
    assert tokenizer.decode(batch.input_ids[0, batch.coordinates[0]]).replace(" ", "") == "120300400"
    expected = RopeIndex(source.encoder.model_config)(
        batch.input_ids[0], batch.mm_token_type_ids[0], batch.image_grid_thw
    )
    assert batch.position_ids[1:, 0].equal(expected)
    assert batch.position_ids[0, 0].equal(torch.arange(batch.input_ids.shape[1]))


def test_answers_are_packed_anew(source):
    """Two batches of one sample become one with short answers; a sample without an answer is left out."""
    batches = [batch_of(source, 0), batch_of(source, 1), batch_of(source, 2)]
    answers = [[said(source, "好")], [None], [said(source, "好")]]
    (packed,) = rewriter(source).packs(batches, answers)
    assert sorted(packed.places) == sorted(batches[0].places + batches[2].places)
    assert len(rewriter(source, max_length=packed.input_ids.shape[1] - 1).packs(batches, answers)) == 2
    assert rewriter(source).packs(batches, [[None]] * 3) == []


def test_an_empty_batch_supervises_nothing(source):
    empty = rewriter(source).empty(batch_of(source, 0, 1))
    assert (empty.labels == IGNORED).all()
    assert len(empty.places) == 1
