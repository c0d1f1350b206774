"""Which tokens of an answer are digits of coordinates: by the structure of its JSON, from its token ids alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

# A string, the last one perhaps cut off: whatever it says, its digits are no coordinates.
STRING = re.compile(r'"(?:[^"\\]|\\.)*"?')
# The inside of a list of numbers, perhaps cut off. (A byte-level vocabulary writes its blanks in other letters.)
NUMBERS = re.compile(r"(?<=\[)[^\[\]{}]*")


def coordinate_tokens(ids: Sequence[int], tokenizer: Any) -> list[bool]:
    """True for every token of an answer with a digit of a list of numbers in it; `ids` is the answer, whole or cut."""
    # Byte-level words spell each byte as one letter, and ASCII as itself; an id without a word spells nothing.
    words = [word or "" for word in tokenizer.convert_ids_to_tokens(list(ids))]
    text = STRING.sub(lambda found: " " * len(found[0]), "".join(words))
    inside = bytearray(len(text))
    for found in NUMBERS.finditer(text):
        for at in range(found.start(), found.end()):
            inside[at] = text[at].isascii() and text[at].isdigit()
    ends = list(accumulate(map(len, words)))
    return [any(inside[end - len(word) : end]) for word, end in zip(words, ends, strict=True)]
