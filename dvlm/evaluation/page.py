"""The page of an evaluation: scores with their intervals, side by side with another one, and the worst answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dvlm import drawing
from dvlm.data import images
from dvlm.evaluation.result import Result, better, unlike
from dvlm.evaluation.turns import Answered
from dvlm.gallery import markup
from dvlm.gallery.document import document
from dvlm.gallery.markup import Html, section, tag
from dvlm.gallery.turns import embedded, figure
from dvlm.metrics.scores import Score
from dvlm.metrics.sums import KINDS
from dvlm.values import Mode

MEASURES = (
    "precision",
    "recall",
    "f1",
    "mean_f1",
    "localisation_error",
    "desc_exact",
    "desc_f1",
    "hallucinated",
    "missed",
)
ALL = "all"
TITLE = "Evaluation"
SHARE = 200_000  # bytes of one picture, at most

Scores = Mapping[str, Score]


def page(result: Result, other: Result | None, worst: Sequence[Answered]) -> str:
    """One HTML document; `other` is shown beside `result` where it was evaluated too."""
    parts = [section("Losses", _losses(result, other))] if result.losses else []
    for decoding, scores in result.scores.items():
        theirs = other.scores.get(decoding, {}) if other else {}
        parts.append(section(f"Scores, {decoding} decoding", _scores(scores, theirs)))
        parts += [section(title, table) for title, table in _breakdown(scores, theirs) if table]
    if worst:
        note = tag(
            "p", "Left the truth, right the answer; what matches nothing at 0.5 counts against it.", class_="note"
        )
        parts.append(section("The worst answers", note, *map(_card, worst)))
    facts = markup.facts((name, str(value)) for name, value in result.facts.items())
    return document(TITLE, tag("h1", TITLE), section("Made from", facts, *_unlike(result, other)), *parts)


def _unlike(result: Result, other: Result | None) -> Iterator[Html]:
    """A notice for each thing in which the two were not evaluated alike."""
    if other is None:
        return
    for name in unlike(result, other):
        sides = f"{name} is {result.facts.get(name)} here, {other.facts.get(name)} there"
        yield tag("p", f"This is not compared with its like: {sides}.", class_="notice")


def _losses(result: Result, other: Result | None) -> Html:
    theirs = other.losses if other else {}
    rows = [
        (name, f"{value:.4f}", *(_beside(name, value, theirs.get(name)) if other else ()))
        for name, value in result.losses.items()
    ]
    return markup.table(("", "value", *(("other", "this one is") if other else ())), rows)


def _scores(scores: Scores, theirs: Scores) -> Html:
    """Measures down, kinds of geometry across; then what has no kind."""
    kinds = (*KINDS.values(), ALL)
    grid = [
        (measure, *(_cell(scores.get(measure if kind == ALL else f"{measure}_{kind}")) for kind in kinds))
        for measure in MEASURES
    ]
    single = [name for name in scores if not name.startswith((*MEASURES, "class/", "attribute/"))]
    return markup.join(
        [
            markup.table(("", *kinds), [row for row in grid if any(row[1:])]),
            _listed(single, scores, theirs),
        ]
    )


def _breakdown(scores: Scores, theirs: Scores) -> Iterator[tuple[str, Html]]:
    """Classes, attributes, and where another evaluation differs."""
    classes = sorted({name.split("/")[1] for name in scores if name.startswith("class/")})
    rows = [(c, *(_cell(scores.get(f"class/{c}/{m}")) for m in ("precision", "recall", "f1"))) for c in classes]
    yield "By class", markup.table(("class", "precision", "recall", "f1"), rows) if rows else Html("")
    names = [name for name in scores if name.startswith("attribute/")]
    yield "Attributes of matched objects", _listed(names, scores, theirs) if names else Html("")
    if theirs:
        shared = [name for name in scores if name in theirs and scores[name].value != theirs[name].value]
        yield "Where the two differ", _listed(shared, scores, theirs) if shared else Html("")


def _listed(names: Sequence[str], scores: Scores, others: Scores) -> Html:
    rows = []
    for name in names:
        other = others.get(name)
        beside = _beside(name, scores[name].value, other.value if other else None)
        rows.append((name, _cell(scores[name]), *(beside if others else ())))
    return markup.table(("", "value", *(("other", "this one is") if others else ())), rows)


def _beside(name: str, value: float, other: float | None) -> tuple[str, ...]:
    if other is None:
        return ("", "")
    same = "equal" if value == other else ""
    return f"{other:.4f}", {True: "better", False: "worse", None: same}[better(name, value, other)]


def _cell(score: Score | None) -> str:
    if score is None:
        return ""
    spread = f" ({score.low:.3f} to {score.high:.3f})" if score.low < score.high else ""
    return f"{score.value:.3f}{spread}"


def _card(answered: Answered) -> Html:
    turn = answered.turn
    head = tag("header", tag("h3", turn.place), tag("span", str(turn.mode), class_="chip"))
    problem = [tag("p", answered.error, class_="notice")] if answered.error else []
    pictures = [
        figure(embedded(_pair(answered, number), SHARE), str(path), path.name)
        for number, path in enumerate(turn.images)
    ]
    return tag("article", head, *problem, *pictures, markup.folded("answer", tag("pre", answered.reply.text)))


def _pair(answered: Answered, number: int) -> NDArray[np.uint8]:
    """Truth and answer of one image, side by side."""
    turn = answered.turn
    pixels = images.load(turn.images[number])
    if turn.mode is Mode.SUMMARY:
        texts = [turn.records[number].summary or "", answered.summaries[number]]
        return drawing.side_by_side([pixels, pixels], texts)
    sides = [drawing.draw(pixels, each.shapes, each.descs) for each in (answered.truth[number], answered.told[number])]
    return drawing.side_by_side(sides, ["truth", "answer"])
