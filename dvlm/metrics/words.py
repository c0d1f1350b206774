"""Descriptions and summaries taken apart: class, attributes, counts, and how alike two texts are."""

from __future__ import annotations

import re
from collections import Counter

SEPARATOR = "/"
COUNT = re.compile(r"^(?P<name>.+?)\s*[×xX*]\s*(?P<count>\d+)$")


def class_of(desc: str) -> str:
    """The first part: `BBU设备` of `BBU设备/品牌:华为/型号:5900`."""
    return desc.split(SEPARATOR)[0].strip()


def attributes(desc: str) -> dict[str, str]:
    """The parts `key:value` behind the class, a full-width colon too; the key of a part without one is empty."""
    pairs = (part.replace("：", ":").partition(":") for part in desc.split(SEPARATOR)[1:] if part.strip())
    return {(key.strip() if colon else ""): (value if colon else key).strip() for key, colon, value in pairs}


def character_f1(told: str, truth: str) -> float:
    """F1 of the characters as a bag, as SQuAD does with words (Rajpurkar et al. 2016); two empty texts score 1."""
    if not told or not truth:
        return float(told == truth)
    common = sum((Counter(told) & Counter(truth)).values())
    return 2 * common / (len(told) + len(truth))


def counts(summary: str) -> dict[str, int]:
    """How many of each class a summary names: `光模块×3/线缆×2`; a part without a number counts once."""
    found: Counter[str] = Counter()
    for part in filter(None, (part.strip() for part in summary.split(SEPARATOR))):
        match = COUNT.match(part)
        found[match["name"] if match else part] += int(match["count"]) if match else 1
    return dict(found)


def count_error(told: str, truth: str) -> tuple[int, int]:
    """Sum over classes of the difference of counts, and how many objects the truth names."""
    ours, theirs = counts(told), counts(truth)
    wrong = sum(abs(ours.get(name, 0) - theirs.get(name, 0)) for name in ours.keys() | theirs.keys())
    return wrong, sum(theirs.values())
