"""The page of a sweep: the decision first, then figures, then every run in a table that sorts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from dvlm.gallery import markup
from dvlm.gallery.document import document
from dvlm.gallery.markup import Html, section, tag
from dvlm.reporting import rows
from dvlm.reporting.flags import CHECKS, Flag
from dvlm.reporting.importance import Importance
from dvlm.reporting.ranking import Recommendation
from dvlm.reporting.runs import STATES, Run
from dvlm.reporting.script import SCRIPT, STYLE
from dvlm.reporting.sharing import sharing
from dvlm.reporting.sweep import Sweep

TITLES = {
    "front": ("Loss against distance from the teacher", "Every point is a run at its best checkpoint."),
    "scores": ("Caption score against distance from the teacher", "Every point is a run at its best checkpoint."),
    "heat_maps": ("Over beta and learning rate", "A cell is the best of its runs."),
    "curves": ("Learning curves", "Curves of training are running means."),
    "parallel": ("Parameters and results", "One line a run, coloured by the first result."),
}


def page(
    sweep: Sweep,
    flags: Mapping[str, list[Flag]],
    chosen: Recommendation | None,
    figures: Mapping[str, bytes],
    importance: Sequence[Importance],
    *,
    refresh: float | None = None,
) -> str:
    """One HTML document; `figures` are PNG files by the names of `TITLES`, and `importance`."""
    pictures = [
        section(title, tag("p", note, class_="note"), _picture(figures[name], title))
        for name, (title, note) in TITLES.items()
        if name in figures
    ]
    if "importance" in figures:
        note = f"{importance[0].method[0].upper()}{importance[0].method[1:]}."
        title = "What matters"
        pictures.append(section(title, tag("p", note, class_="note"), _picture(figures["importance"], title)))
    return document(
        f"Sweep {sweep.name}",
        tag("h1", f"Sweep {sweep.name}"),
        tag("p", f"{len(sweep.runs)} runs over {', '.join(sweep.parameters) or 'nothing'}.", class_="lead"),
        tag(
            "div", *(tag("div", tag("b", value), tag("span", name)) for name, value in key_figures(sweep)), class_="key"
        ),
        _recommendation(sweep, chosen),
        _failures(sweep),
        *pictures,
        section("Runs", tag("p", "A click on a heading sorts.", class_="note"), _table(sweep, flags, chosen)),
        section("Checklist", tag("ul", *(tag("li", text) for text in CHECKS)), _findings(sweep, flags)),
        section("Made from", markup.facts(_origin(sweep))),
        style=STYLE,
        script=SCRIPT,
        refresh=refresh,
    )


def key_figures(sweep: Sweep) -> list[tuple[str, str]]:
    """The (name, value) pairs that the page begins with: how many runs are in which state, hours, cache hits."""
    states = [(state, str(sweep.count(state))) for state in STATES if sweep.count(state)]
    hours = [run.device_hours for run in sweep.runs if run.device_hours is not None]
    found = [*states, *([("device hours", f"{sum(hours):,.1f}")] if hours else [])]
    shared = sharing(sweep.runs)
    if shared:
        share = shared.hits / (shared.hits + shared.misses)
        found.append((f"teacher-cache hits ({share:.0%})", f"{shared.hits:,}"))
        if shared.saved is not None:
            found.append(("saved by the cache", rows.clock(shared.saved)))
    return found


def _picture(png: bytes, title: str) -> Html:
    return tag("img", src="data:image/png;base64," + base64.b64encode(png).decode(), alt=title, class_="figure")


def _recommendation(sweep: Sweep, chosen: Recommendation | None) -> Html:
    if chosen is None:
        return tag("p", "No run has ended with a result yet: nothing to recommend.", class_="notice")
    values = ", ".join(f"{key}={rows.shown(chosen.run.parameter(key))}" for key in sweep.parameters)
    return tag(
        "div",
        tag("h2", "Recommended: ", values or chosen.run.name),
        tag("p", chosen.reason),
        tag("p", "This exports its best checkpoint:", class_="note"),
        tag("pre", chosen.command, class_="answer"),
        class_="notice",
    )


def _failures(sweep: Sweep) -> Html:
    failed = [(run.name, run.error or "no error was recorded") for run in sweep.runs if run.state == "failed"]
    return section("Failures", markup.facts(failed)) if failed else Html("")


def _table(sweep: Sweep, flags: Mapping[str, list[Flag]], chosen: Recommendation | None) -> Html:
    shown_columns = rows.columns(sweep)
    names = ["", *(column.name for column in shown_columns), "run"]
    head = tag("tr", *(tag("th", name, scope="col", class_="number") for name in names))
    body = []
    for run in sweep.runs:
        picked = chosen is not None and run is chosen.run
        cells = [_mark(flags[run.name])]
        for column in shown_columns:
            value = column.value(run)
            key = "" if value is None else str(value)
            cells.append(tag("td", column.text(value), data_key=key, class_="number"))
        cells.append(tag("td", run.name, class_="place"))
        body.append(tag("tr", *cells, class_="picked" if picked else None))
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body), class_="sorts"), class_="scroll wide")


def _mark(flags: list[Flag]) -> Html:
    text = "\n".join(flag.text for flag in flags)
    level = flags[0].level if flags else ""
    return tag("td", rows.mark(flags), title=text or None, data_key=level, class_=f"mark {level}")


def _findings(sweep: Sweep, flags: Mapping[str, list[Flag]]) -> Html:
    """Runs with the same findings to watch share a line."""
    grouped: dict[str, list[Run]] = {}
    for run in sweep.runs:
        for flag in flags[run.name]:
            if flag.level != "good":
                grouped.setdefault(flag.text, []).append(run)
    lines = [(", ".join(run.name for run in found), text) for text, found in grouped.items()]
    if not lines:
        return tag("p", "Nothing to watch.", class_="note")
    table = markup.facts(lines)
    return table if len(lines) <= 12 else markup.folded(f"{len(lines)} findings", table)


def _origin(sweep: Sweep) -> list[tuple[str, str]]:
    baselines = ", ".join(str(run.directory) for run in sweep.baselines)
    given = [("Directory", str(sweep.directory)), ("Command", sweep.command), ("Created", sweep.created)]
    return [(name, text) for name, text in [*given, ("SFT baselines", baselines)] if text]
