"""The form of an answer as a grammar (GBNF, as xgrammar takes it): what does not fit can never be written.

`max_objects` and `max_desc_chars` are part of it and free white space is not, so that an answer cannot go on for ever.
A grammar bounds each coordinate; that a box's first corner is the upper left one is no matter of form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dvlm.data.messages import image_key
from dvlm.geometry.normalise import Norm
from dvlm.values import Mode

NORM_TOP = {"norm100": 100, "norm1000": 1000}
# Characters as ranges, since a class of "all but" takes bytes that are no UTF-8: surrogates.
ABOVE = r"\x80-\ud7ff\ue000-\U0010ffff"
# What a JSON string holds without an escape, and the escapes that json.dumps writes.
PLAIN = rf"[\x20-\x21\x23-\x5b\x5d-\x7e{ABOVE}]"
ESCAPE = r'"\\" ["\\/bfnrt]'
ESCAPES = 8  # of one text
COUNTED = 128  # xgrammar masks wrongly where it counts further: it allows words that it then refuses
VISIBLE = r"\xa1-\u167f\u1681-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\u2fff\u3001-\ud7ff\ue000-\ufefe\uff00-\U0010ffff"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an answer may hold: objects an image, vertices a line, characters a description or a summary."""

    max_objects: int = 60
    max_line_points: int = 32
    max_desc_chars: int = 80


def answer_grammar(mode: Mode, sizes: Sequence[tuple[int, int]], norm: Norm, limits: Limits) -> str:
    """The grammar of one answer about images of (width, height): every `图片_k` in order, each as its mode has it."""
    body = _dense if mode is Mode.DENSE else _summary
    names = [f'"\\"{image_key(number)}\\": " image{number}' for number in range(1, len(sizes) + 1)]
    rules = ['root ::= "{" ' + ' ", " '.join(names) + ' "}"']
    for number, size in enumerate(sizes, 1):
        rules += body(number, size, norm, limits)
    return "\n".join(rules)


def verdict_grammar(passed: str, failed: str, reason: str, max_chars: int) -> str:
    """Exactly two lines: one of two verdicts, then `reason` and one to `max_chars` characters."""
    rest = rf"[\x20-\x7e{ABOVE}]"
    return "\n".join(
        [
            f'root ::= ("{passed}" | "{failed}") "\\n" "{reason}" line',
            rf"line ::= [\x21-\x7e{VISIBLE}] {_upto(rest, max_chars - 1)}",
        ]
    )


def _summary(number: int, size: tuple[int, int], norm: Norm, limits: Limits) -> list[str]:
    """Not empty, and no blank to begin with."""
    return [
        f'image{number} ::= "\\"" line{number} "\\""',
        rf"line{number} ::= [\x21\x23-\x5b\x5d-\x7e{VISIBLE}] {_text(limits.max_desc_chars - 1)}",
    ]


def _dense(number: int, size: tuple[int, int], norm: Norm, limits: Limits) -> list[str]:
    """The rules of one image; its number is part of their names, since pixel coordinates end with the image."""
    width, height = size if norm == "none" else (NORM_TOP[norm],) * 2
    point = f'x{number} ", " y{number}'
    quad = ' ", " '.join([point] * 4)
    more = _upto(f'(", " {point})', limits.max_line_points - 2)
    geometry = f'"bbox_2d\\": [" {point} ", " {point} | "quad\\": [" {quad} | "line\\": [" {point} ", " {point} {more}'
    others = _upto(f'(", " object{number})', limits.max_objects - 1)
    return [
        f'image{number} ::= "[]" | "[" object{number} {others} "]"',
        f'object{number} ::= "{{\\"" geometry{number} "], \\"desc\\": \\"" desc{number} "\\"}}"',
        f"desc{number} ::= {_text(limits.max_desc_chars)}",
        f"geometry{number} ::= {geometry}",
        f"x{number} ::= {whole_numbers(width)}",
        f"y{number} ::= {whole_numbers(height)}",
    ]


def _text(limit: int) -> str:
    """Up to `limit` characters of a JSON string; each escape grants as many again.

    Which words fit is known ahead only within one rule and for a class of characters. With one rule a character, each
    word of a real vocabulary was tried at each step: 60 ms a row instead of 0.9.
    """
    plain = _upto(PLAIN, limit)
    return f"{plain} ({ESCAPE} {plain}){{0,{ESCAPES}}}"


def _upto(item: str, limit: int) -> str:
    """`item` up to `limit` times."""
    if limit <= COUNTED:
        return f"{item}{{0,{limit}}}"
    return f"({item}{{0,{COUNTED - 1}}} | {item}{{{COUNTED}}} {_upto(item, limit - COUNTED)})"


def whole_numbers(top: int) -> str:
    """The numbers 0 to `top` without leading zeros, as alternatives of a grammar."""
    digits = str(top)
    shorter = [f"[1-9]{' [0-9]' * (length - 1)}" for length in range(2, len(digits))]
    if len(digits) == 1:
        return f"[0-{top}]"
    same = []
    for place, digit in enumerate(digits):
        low, high = int(place == 0), int(digit) - 1
        if high >= low:
            head = [f'"{digits[:place]}"'] if place else []
            same.append(" ".join([*head, f"[{low}-{high}]", *["[0-9]"] * (len(digits) - place - 1)]))
    return " | ".join(["[0-9]", *shorter, *same, f'"{digits}"'])
