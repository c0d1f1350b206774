"""Digits of coordinates are found by the structure of an answer: in lists of numbers, never in descriptions."""

from __future__ import annotations

import json

import pytest
from datakit import encoder, line

from dvlm.data.coordinates import coordinate_tokens
from dvlm.data.encode import IGNORED
from dvlm.data.index import RecordFile


@pytest.fixture(scope="module")
def tokenizer(tiny):
    return encoder(tiny).processor.tokenizer


def marked(text: str, tokenizer) -> list[str]:
    """The tokens of `text` that are marked."""
    ids = tokenizer(text)["input_ids"]
    flags = coordinate_tokens(ids, tokenizer)
    return [tokenizer.decode([token]) for token, flag in zip(ids, flags, strict=True) if flag]


OBJECTS = {"图片_1": [{"bbox_2d": [12, 345, 6, 1000], "desc": '标签/文字:"7[8]"\\9 [10, 11]'}], "图片_2": []}


def test_only_the_numbers_of_lists(tokenizer):
    assert "".join(marked(json.dumps(OBJECTS, ensure_ascii=False), tokenizer)) == "1234561000"


def test_a_summary_has_none(tokenizer):
    assert not marked(json.dumps({"图片_1": "光模块×3/线缆[2]"}, ensure_ascii=False), tokenizer)


def test_an_answer_that_is_cut_anywhere_marks_what_is_left_of_it(tokenizer):
    ids = tokenizer(json.dumps(OBJECTS, ensure_ascii=False))["input_ids"]
    whole = coordinate_tokens(ids, tokenizer)
    for end in range(len(ids)):
        assert coordinate_tokens(ids[:end], tokenizer) == whole[:end]


def test_ids_that_spell_nothing(tokenizer):
    assert coordinate_tokens([len(tokenizer) + 1, tokenizer.eos_token_id], tokenizer) == [False, False]
    assert coordinate_tokens([], tokenizer) == []


def test_a_sample_knows_its_coordinates(tiny, demo_files):
    source = line(RecordFile(demo_files[0], None), tiny)
    sample = source.sample(0, 0)
    things = [thing for image in json.loads(sample.answer).values() for thing in image]
    lists = [value for thing in things for value in thing.values() if isinstance(value, list)]
    digits = "".join(str(number) for numbers in lists for number in numbers)
    assert digits
    assert source.encoder.processor.tokenizer.decode(sample.input_ids[sample.coordinates]).replace(" ", "") == digits
    assert (sample.labels[sample.coordinates] != IGNORED).all()
