"""The whole page: numbers, histogram, tables, turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from dvlm import drawing
from dvlm.gallery import markup
from dvlm.gallery.document import document
from dvlm.gallery.histogram import histogram
from dvlm.gallery.markup import Html, section, tag
from dvlm.gallery.survey import Objects, Survey
from dvlm.geometry.shapes import Kind

MOST_TYPES = 40
PADDING = "What a pack leaves free is never computed; the free cells of padded rows are."


def page(title: str, origin: Sequence[tuple[str, str]], notice: str, survey: Survey, cards: Iterable[Html]) -> str:
    """One HTML document. `origin` says what was read and how; `notice` is what a person must see first, or empty."""
    figures = (tag("div", tag("b", value), tag("span", name)) for name, value in key_figures(survey))
    lengths = survey.lengths[:, 0]
    return document(
        title,
        tag("h1", title),
        tag("p", "What training will see: the same pairs, draws and texts as in a run of this seed.", class_="lead"),
        tag("p", notice, class_="notice") if notice else "",
        tag("div", *figures, class_="key"),
        section("Lengths", tag("div", histogram(lengths, survey.max_length), class_="scroll"), _spread(lengths)),
        tag(
            "div",
            section("The epoch in numbers", markup.facts(_numbers(survey)), tag("p", PADDING, class_="note")),
            tag(
                "div",
                section("What augmentation does", _augmentation(survey)),
                section("Made from", markup.facts(origin)),
            ),
            class_="columns",
        ),
        section("Objects by type", *_types(survey.objects)),
        section("Turns", tag("p", "A click on a picture enlarges it.", class_="note"), *cards),
    )


def key_figures(survey: Survey) -> list[tuple[str, str]]:
    """The (name, value) pairs that matter most: the page begins with them, the terminal shows them."""
    plan = survey.statistics
    return [
        ("turns", f"{len(survey.lengths):,}"),
        ("tokens", f"{plan['tokens']:,}"),
        ("supervised", f"{plan['supervised_tokens'] / plan['tokens']:.1%}"),
        ("image tokens", f"{survey.image_share:.1%}"),
        ("packs", f"{survey.packed_statistics['packs']:,}"),
        ("packing efficiency", f"{survey.packed_statistics['efficiency']:.1%}"),
        ("padded instead", f"{survey.padded_share:.1%}"),
        ("turns dropped", f"{plan['dropped']:,}"),
    ]


def _spread(lengths: NDArray[np.int64]) -> Html:
    low, middle, high, longest = np.quantile(lengths, (0, 0.5, 0.95, 1), method="higher").tolist()
    text = f"Shortest {low:,}, median {middle:,}, 95 % up to {high:,}, longest {longest:,} tokens."
    return tag("p", text, class_="note")


def _numbers(survey: Survey) -> list[tuple[str, str]]:
    plan, packed, objects = survey.statistics, survey.packed_statistics, survey.objects
    padded, unit = survey.padded.statistics(survey.max_length), "packed" if survey.packing else "padded"
    found, kept = objects.found.total(), objects.kept.total()
    modes, sources = (
        ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        for counts in (survey.modes, survey.sources)
    )
    return [
        ("Records", f"{survey.records:,}"),
        ("Turns", f"{len(survey.lengths):,} ({modes})"),
        *([("Sources", sources)] if len(survey.sources) > 1 else []),
        ("Images", f"{survey.images:,}"),
        ("Tokens", f"{plan['tokens']:,}"),
        ("Supervised tokens", f"{plan['supervised_tokens']:,} ({plan['supervised_tokens'] / plan['tokens']:.1%})"),
        ("Image tokens", f"{survey.image_share:.1%} of all tokens"),
        (
            "Packed",
            f"{packed['packs']:,} packs of at most {survey.max_length:,} tokens, "
            f"{packed['samples'] / packed['packs']:.1f} turns each, filled to {packed['efficiency']:.2%}",
        ),
        (
            "Padded",
            f"{padded['packs']:,} micro-batches of {survey.rows} rows as long as their longest, "
            f"filled to {survey.padded_share:.2%}",
        ),
        ("Optimizer steps", f"{plan['steps']:,} ({unit}), data.packs_per_step {survey.packs_per_step}"),
        ("Turns dropped", f"{plan['dropped']:,} longer than {survey.max_length:,} tokens"),
        ("Objects", f"{found:,} in dense turns, {found - kept:,} dropped, {objects.cut:,} cut by the canvas"),
    ]


def _augmentation(survey: Survey) -> Html:
    if not survey.events:
        return tag("p", "Nothing: every image stays as it is.", class_="note")
    rows = ((name, f"{count:,}", f"{count / survey.images:.1%}") for name, count in survey.events.most_common())
    return markup.table(("what happens", "images", "share"), rows)


def _types(objects: Objects) -> list[Html]:
    if not objects.found:
        return [tag("p", "There are none: no dense turn has an object.", class_="note")]
    shown, more = objects.found.most_common(MOST_TYPES), len(objects.found) - MOST_TYPES
    rest = [tag("p", f"and {more:,} rarer types", class_="note")] if more > 0 else []
    head = ("type", "in the records", *(f"{kind.key} in answers" for kind in Kind), "dropped")
    return [markup.table(head, [_type_row(objects, name, count) for name, count in shown]), *rest]


def _type_row(objects: Objects, name: str, count: int) -> list[str]:
    kinds = [objects.kept[name, kind] for kind in Kind]
    red, green, blue = drawing.type_colour(name)
    dot = tag("span", class_="dot", style=f"background: rgb({red} {green} {blue})")
    return [markup.join((dot, name)), *(f"{number:,}" for number in (count, *kinds, count - sum(kinds)))]
