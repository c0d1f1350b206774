"""What an evaluation found: kept as JSON, compared with another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvlm.metrics.scores import Score
from dvlm.values import InputError

FILE = "evaluation.json"
CONSTRAINED, FREE = "constrained", "free"
# Which way is up: everything else is better when it is larger, but for what is neither good nor bad.
NEITHER = ("entropy", "token_count")
LOWER = ("hallucinated", "missed", "localisation_error", "count_error", "parse_failures", "truncated", "loss")


@dataclass(frozen=True)
class Result:
    """`facts` name checkpoint, data and settings; `losses` have no interval; `scores` are by decoding, then by name."""

    facts: Mapping[str, Any]
    losses: Mapping[str, float]
    scores: Mapping[str, Mapping[str, Score]]

    def save(self, folder: Path) -> None:
        """Write `evaluation.json`."""
        scores = {
            decoding: {name: [score.value, score.low, score.high] for name, score in found.items()}
            for decoding, found in self.scores.items()
        }
        whole = {"facts": dict(self.facts), "losses": dict(self.losses), "scores": scores}
        (folder / FILE).write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Result:
        """From a folder; raises InputError where there is no evaluation."""
        file = folder / FILE
        if not file.is_file():
            raise InputError(f"against: no {FILE} in {folder}; give the output folder of another evaluation")
        whole = json.loads(file.read_text(encoding="utf-8"))
        scores = {
            decoding: {name: Score(*numbers) for name, numbers in found.items()}
            for decoding, found in whole["scores"].items()
        }
        return cls(whole["facts"], whole["losses"], scores)


def better(name: str, ours: float, theirs: float) -> bool | None:
    """Whether `ours` is better than `theirs`; None where they are equal, or where neither would be better."""
    if ours == theirs or name in NEITHER:
        return None
    return (ours < theirs) == any(word in name for word in LOWER)


def unlike(ours: Result, theirs: Result) -> list[str]:
    """The facts, those of the checkpoint aside, in which two evaluations differ."""
    names = {*ours.facts, *theirs.facts} - {"checkpoint", "base_model", "records"}
    return sorted(name for name in names if ours.facts.get(name) != theirs.facts.get(name))
