"""HTML from small pieces. Whatever is not `Html` already is text, and is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

VOID = ("meta", "img", "input")  # elements without an end


class Html(str):
    """Text that is HTML already."""


def tag(name: str, /, *children: str, **attributes: object) -> Html:
    """`<name attributes>children</name>`, children and values escaped; None leaves an attribute out.

    An underscore in an attribute is a hyphen, one at its end is dropped: `class_`, `stroke_width`.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    start = "".join(f' {key}="{html.escape(str(value))}"' for key, value in given.items())
    return Html(f"<{name}{start}>" if name in VOID else f"<{name}{start}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Html:
    """The children one after the other, texts escaped."""
    return Html("".join(child if isinstance(child, Html) else html.escape(child) for child in children))


def section(title: str, *children: str) -> Html:
    """A part of the page under its heading."""
    return tag("section", tag("h2", title), *children)


def facts(rows: Iterable[tuple[str, str]]) -> Html:
    """A table of names and values."""
    return _scrolling(*(tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in rows))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table whose first column is text, and whose others are numbers."""
    body = (
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", c, class_="number") for c in row[1:])) for row in rows
    )
    names = (tag("th", name, scope="col", class_="number" if place else None) for place, name in enumerate(head))
    return _scrolling(tag("thead", tag("tr", *names)), tag("tbody", *body))


def folded(summary: str, *children: str) -> Html:
    """What opens with a click."""
    return tag("details", tag("summary", summary), *children)


def _scrolling(*rows: Html) -> Html:
    # On a narrow screen the table scrolls, not the page.
    return tag("div", tag("table", *rows), class_="scroll")
