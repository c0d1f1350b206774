"""Stage-B: a verdict of two lines a group, `通过` or `不通过`, then `理由: …`; and how verdicts agree with labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dvlm.inference.asking import Request
from dvlm.inference.cases import Case
from dvlm.inference.engine import Reply
from dvlm.inference.grammar import verdict_grammar
from dvlm.inference.tree import LABELS
from dvlm.values import InputError

PASSED, FAILED, REASON = "通过", "不通过", "理由: "
VERDICT_OF = dict(zip(LABELS, (PASSED, FAILED), strict=True))
FORM = re.compile(rf"({PASSED}|{FAILED})\n{REASON}(\S.*)")


def request(case: Case, *, system: str, focus: str, max_reason_chars: int) -> Request:
    """The question of a case, without an image; its answer has the two lines of a verdict."""
    grammar = verdict_grammar(PASSED, FAILED, REASON, max_reason_chars)
    return Request(images=(), system=system, user=case.question(focus), grammar=grammar)


@dataclass(frozen=True)
class Verdict:
    """What a model says of a case."""

    case: Case
    verdict: str
    reason: str

    @classmethod
    def of(cls, case: Case, reply: Reply) -> Verdict:
        """Read back; raises InputError where the answer was cut off or is not of two lines."""
        if not reply.finished:
            raise InputError(f"the verdict was cut off after {reply.tokens} tokens; raise engine.max_new_tokens")
        match = FORM.fullmatch(reply.text)
        if match is None:
            raise InputError(
                f"the answer is {reply.text!r:.80}, expected {PASSED} or {FAILED}, then {REASON}… below it"
            )
        return cls(case, *match.groups())

    @property
    def line(self) -> dict[str, str]:
        """Its line in the output."""
        case, text = self.case, f"{self.verdict}\n{REASON}{self.reason}"
        return {
            "group_id": case.group_id,
            "mission": case.mission,
            "label": case.label,
            "verdict": self.verdict,
            "reason": self.reason,
            "text": text,
        }


def score(verdicts: Sequence[Verdict]) -> dict[str, Any] | None:
    """Verdicts against labels, of the groups that have one; None where none has."""
    pairs = [(VERDICT_OF[each.case.label], each) for each in verdicts if each.case.label]
    if not pairs:
        return None
    confusion = {true: {said: 0 for said in (PASSED, FAILED)} for true in (PASSED, FAILED)}
    wrong: dict[str, list[str]] = {PASSED: [], FAILED: []}
    for true, each in pairs:
        confusion[true][each.verdict] += 1
        if each.verdict != true:
            wrong[each.verdict].append(f"{each.case.mission}/{each.case.group_id}")
    return {
        "groups": len(pairs),
        "accuracy": sum(each.verdict == true for true, each in pairs) / len(pairs),
        "false_passes": wrong[PASSED],
        "false_fails": wrong[FAILED],
        "confusion": confusion,
    }
