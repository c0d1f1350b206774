"""The table of a sweep: one row a run, for the page, the terminal, CSV and JSON alike."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dvlm.reporting.canvas import shown
from dvlm.reporting.flags import BAD, GOOD, WATCH, Flag
from dvlm.reporting.runs import Run, greater_is_better
from dvlm.reporting.sweep import Sweep

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a formula begins
MARKS = {GOOD: "✓", WATCH: "!", BAD: "✗"}


@dataclass(frozen=True)
class Column:
    """One column: its `name`, its value of a run, and how a person reads that value."""

    name: str
    value: Callable[[Run], Any]
    text: Callable[[Any], str] = shown


def columns(sweep: Sweep) -> list[Column]:
    """Parameters, state, the metrics at the best checkpoint, at best and at last, time, speed."""
    found = [Column(key, lambda run, key=key: run.parameter(key)) for key in sweep.parameters]  # type: ignore[misc]
    found.append(Column("state", lambda run: run.state, str))
    for metric in sweep.metrics:
        found += [
            Column(metric, lambda run, metric=metric: run.value(metric)),  # type: ignore[misc]
            Column(f"{metric} best", lambda run, metric=metric: _best(run, metric)),  # type: ignore[misc]
            Column(f"{metric} last", lambda run, metric=metric: _last(run, metric)),  # type: ignore[misc]
        ]
    found += [
        Column("best step", lambda run: run.best_step),
        Column("step", lambda run: run.log.last_step),
        Column("steps", lambda run: run.steps),
        Column("time", lambda run: run.seconds, clock),
        Column("tokens/s", lambda run: run.tokens_per_second, lambda value: "–" if value is None else f"{value:,.0f}"),
        Column("device hours", lambda run: run.device_hours),
        Column("restarts", lambda run: run.status.restarts if run.status else None),
    ]
    return [column for column in found if any(column.value(run) is not None for run in sweep.runs)]


def _best(run: Run, metric: str) -> float | None:
    series = run.log.series.get(metric)
    return series.best(greater=greater_is_better(metric)) if series else None


def _last(run: Run, metric: str) -> float | None:
    series = run.log.series.get(metric)
    return series.last if series else None


def records(sweep: Sweep, flags: dict[str, list[Flag]]) -> list[dict[str, Any]]:
    """The rows as plain values: the run, its directory, every column, its findings and its error."""
    shown_columns = columns(sweep)
    return [
        {
            "run": run.name,
            "directory": str(run.directory),
            **{column.name: column.value(run) for column in shown_columns},
            "findings": "; ".join(flag.text for flag in flags[run.name]),
            "error": run.error,
        }
        for run in sweep.runs
    ]


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _as_text(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def _as_text(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def mark(flags: list[Flag]) -> str:
    """The sign of the worst finding, or an empty text where nothing was checked."""
    return MARKS[flags[0].level] if flags else ""


def clock(seconds: float | None) -> str:
    """`1:02:03`, or `2:03` below an hour.

    >>> clock(3723), clock(123.4), clock(None)
    ('1:02:03', '2:03', '–')
    """
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
