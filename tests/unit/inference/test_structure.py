"""Grammars of answers: what they accept, and that nothing else can be written, whatever the scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xgrammar
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from dvlm.data import answers
from dvlm.data.messages import Prompts
from dvlm.inference.grammar import ESCAPES, Limits, answer_grammar, verdict_grammar, whole_numbers
from dvlm.inference.structure import Structure, accepts
from dvlm.values import InputError, Mode

SIZES = [(640, 57), (1000, 9)]
LIMITS = Limits(max_objects=3, max_line_points=4, max_desc_chars=6)


def dense(*objects: dict[str, object], second: list[object] | None = None) -> str:
    return json.dumps({"图片_1": list(objects), "图片_2": second or []}, ensure_ascii=False)


def box(*flat: int, desc: str = "线缆") -> dict[str, object]:
    return {"bbox_2d": list(flat), "desc": desc}


def held(text: str, norm: str = "norm1000", mode: Mode = Mode.DENSE) -> bool:
    return accepts(answer_grammar(mode, SIZES, norm, LIMITS), text)  # type: ignore[arg-type]


OBJECT = '{"bbox_2d": [1, 2, 3, 4], "desc": ""}'


def held_to(limits: Limits, text: str) -> bool:
    return accepts(answer_grammar(Mode.DENSE, SIZES[:1], "norm1000", limits), text)


@pytest.mark.parametrize("top", [0, 7, 9, 10, 57, 100, 109, 640, 999, 1000, 1919])
def test_whole_numbers(top):
    grammar = f"root ::= {whole_numbers(top)}"
    tried = [*range(min(top, 40) + 1), *range(max(0, top - 30), top + 1), top + 1, top + 9, 10 * top + 1]
    assert [n for n in tried if accepts(grammar, str(n)) != (n <= top)] == []
    assert not accepts(grammar, "01")


@pytest.mark.parametrize(
    "text",
    [
        dense(),
        dense(box(0, 0, 1000, 1000), second=[{"line": [1, 2, 3, 4, 5, 6, 7, 8], "desc": ""}]),
        dense({"quad": [1, 2, 3, 4, 5, 6, 7, 8], "desc": 'a"b\\c\n'}),
    ],
)
def test_what_the_training_data_writes_is_accepted(text):
    assert held(text)


@pytest.mark.parametrize(
    "text",
    [
        dense(box(0, 0, 1001, 5)),
        dense(box(0, 0, 5)),
        dense({"quad": [1, 2, 3, 4], "desc": ""}),
        dense({"line": [1, 2], "desc": ""}),
        dense({"line": [1, 2] * 5, "desc": ""}),
        dense({"bbox_2d": [1, 2, 3, 4], "quad": [1] * 8, "desc": ""}),
        dense(box(1, 2, 3, 4, desc="七个汉字是太多")),
        dense(*[box(1, 2, 3, 4)] * 4),
        json.dumps({"图片_2": [], "图片_1": []}, ensure_ascii=False),
        json.dumps({"图片_1": []}, ensure_ascii=False),
        dense() + " ",
        dense().replace(", ", ",  "),
        dense(box(-1, 2, 3, 4)),
        dense(box(1, 2, 3, 4)).replace("1,", "1.0,"),
    ],
)
def test_everything_else_is_not(text):
    assert not held(text)


def test_pixels_end_with_their_own_image():
    line = {"line": [1000, 9, 0, 0], "desc": ""}
    assert held(dense(box(0, 0, 640, 57), second=[line]), norm="none")
    assert not held(dense(line), norm="none")


def test_summaries_are_not_empty():
    assert held(json.dumps({"图片_1": "线缆×2", "图片_2": "x"}, ensure_ascii=False), mode=Mode.SUMMARY)
    for text in ("", " ", "　", " x"):
        assert not held(json.dumps({"图片_1": text, "图片_2": "x"}, ensure_ascii=False), mode=Mode.SUMMARY)


def test_verdicts_have_two_lines():
    grammar = verdict_grammar("通过", "不通过", "理由: ", 10)
    assert accepts(grammar, "不通过\n理由: 缺少标签")
    for text in (
        "通过",
        "通过\n理由: ",
        "通过\n理由:  a",
        "通过\n理由: a\nb",
        "好\n理由: a",
        "通过\n理由: 01234567890",
    ):
        assert not accepts(grammar, text)


@pytest.mark.parametrize(("mode", "norm"), [(Mode.DENSE, "norm1000"), (Mode.DENSE, "none"), (Mode.SUMMARY, "norm1000")])
def test_whatever_the_scores_every_answer_is_valid(tiny, mode, norm):
    """Random scores for the tiny tokenizer, eight rows at a time, on a head that is padded beyond its words."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    words = len(tokenizer) + 5
    structure = Structure(tokenizer, words)
    prompts = Prompts("u", "d", "s", norm, "file")
    random = torch.Generator().manual_seed(0)
    rows = 8
    holder = structure.hold([answer_grammar(mode, SIZES, norm, LIMITS)] * rows, greedy=False)
    likeliest = structure.hold([answer_grammar(mode, SIZES, norm, LIMITS)] * rows, greedy=True)
    ids = torch.zeros(rows, 1, dtype=torch.long)
    ended = torch.zeros(rows, dtype=torch.bool)
    for _ in range(700):
        raw = torch.randn(rows, words, generator=random)
        found = likeliest(ids, raw.clone()).argmax(-1)
        chosen = torch.where(ended, tokenizer.pad_token_id, holder(ids, raw).argmax(-1))
        assert torch.equal(chosen[~ended], found[~ended]), "greedily a mask that changes nothing is left out"
        ended |= chosen == tokenizer.eos_token_id
        ids = torch.cat([ids, chosen[:, None]], 1)
        if ended.all():
            break
    assert ended.all()
    texts = tokenizer.batch_decode(ids[:, 1:], skip_special_tokens=True)
    assert len(set(texts)) > 1
    for text in texts:
        assert accepts(answer_grammar(mode, SIZES, norm, LIMITS), text)
        value = json.loads(text)
        assert list(value) == ["图片_1", "图片_2"]
        if mode is Mode.SUMMARY:
            assert all(value.values())
            continue
        try:
            answers.parse(text, SIZES, prompts)
        except InputError as error:
            assert "x1 <= x2" in str(error)  # noqa: PT017


def test_an_escape_grants_as_many_characters_again():
    assert held(dense(box(1, 2, 3, 4, desc='123456"123456')))
    assert not held(dense(box(1, 2, 3, 4, desc='123456"1234567')))
    assert held(dense(box(1, 2, 3, 4, desc='"' * ESCAPES)))
    assert not held(dense(box(1, 2, 3, 4, desc='"' * (ESCAPES + 1))))


@pytest.mark.parametrize("limit", [80, 200, 300])
def test_a_mask_allows_what_is_taken_whatever_the_limit(limit):
    """Words that begin within a text and end beyond it; xgrammar's masks are wrong for counts above 128."""
    words = ["a", "aa", '"', 'a"', 'a"}', "\n", "a\n", 'a"\n', 'a"a', "\\n", "\\q", "a" * 9, "</s>"]
    compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo(words, stop_token_ids=[12]))
    limits = Limits(max_desc_chars=limit, max_objects=limit, max_line_points=limit)
    text = '{"图片_1": "'
    grammar = compiler.compile_grammar(answer_grammar(Mode.SUMMARY, SIZES[:1], "norm1000", limits))
    for written in (0, 1, 100, 127, 128, 129, limit - 1, limit):
        matcher = xgrammar.GrammarMatcher(grammar)
        if not matcher.accept_string(text + "a" * written):
            assert written > limit
            continue
        mask = xgrammar.allocate_token_bitmask(1, len(words))
        matcher.fill_next_token_bitmask(mask)
        for number, word in enumerate(words[:-1]):
            taken = matcher.accept_token(number)
            assert bool(mask[0, 0] >> number & 1) == taken, (written, word)
            if taken:
                matcher.rollback(1)
    numbers = [n for n in (1, limit, limit + 1) if held_to(limits, '{"图片_1": [' + ", ".join([OBJECT] * n) + "]}")]
    assert numbers == [1, limit]


def test_bytes_that_are_no_character_cannot_be_written(tiny):
    """Half a surrogate pair and an overlong form, byte by byte; a character of three bytes and one of four can be."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    structure = Structure(tokenizer, len(tokenizer))
    alphabet = bytes_to_unicode()
    for form, opening in (
        (answer_grammar(Mode.SUMMARY, SIZES[:1], "norm1000", LIMITS), '{"图片_1": "x'),
        (answer_grammar(Mode.SUMMARY, SIZES[:1], "norm1000", LIMITS), '{"图片_1": "'),
        (answer_grammar(Mode.DENSE, SIZES[:1], "norm1000", LIMITS), '{"图片_1": [{"bbox_2d": [1, 2, 3, 4], "desc": "'),
        (verdict_grammar("通过", "不通过", "理由: ", 9), "通过\n理由: "),
    ):
        for raw, legal in (
            (b"\xed\xa0\x80", False),
            (b"\xe0\x80\x80", False),
            ("线".encode(), True),
            ("😀".encode(), True),
        ):
            matcher = xgrammar.GrammarMatcher(structure.compile(form))
            assert matcher.accept_string(opening)
            taken = [matcher.accept_token(tokenizer.convert_tokens_to_ids(alphabet[byte])) for byte in raw]
            assert all(taken) == legal, (form, raw)


def test_a_row_that_was_not_held_is_noticed(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    holder = Structure(tokenizer, len(tokenizer)).hold(
        [answer_grammar(Mode.DENSE, SIZES, "norm1000", LIMITS)], greedy=False
    )
    scores = torch.from_numpy(np.zeros((1, len(tokenizer)), np.float32))
    holder(torch.zeros(1, 1, dtype=torch.long), scores)
    with pytest.raises(RuntimeError, match="masked"):
        holder(torch.tensor([[0, tokenizer("[")["input_ids"][0]]]), scores)
