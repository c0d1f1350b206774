"""The report as a person sees it in the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dvlm.reporting import rows
from dvlm.reporting.canvas import short, shown
from dvlm.reporting.flags import Flag
from dvlm.reporting.ranking import Recommendation, cost
from dvlm.reporting.runs import SFT, Run
from dvlm.reporting.sweep import Sweep

PICKED = "★"
COLOURS = {"succeeded": "green", "running": "cyan", "failed": "red", "preempted": "yellow", "pruned": "magenta"}


def show(
    console: Console, sweep: Sweep, flags: dict[str, list[Flag]], chosen: Recommendation | None, most: int
) -> None:
    """The table of the best `most` runs, failures with their last line, and the recommendation with its command."""
    console.print(_table(sweep, flags, chosen, most))
    for run in sweep.runs:
        if run.state == "failed":
            console.print(Text(f"failed  {run.name}: {run.error or 'no error was recorded'}"), soft_wrap=True)
    if chosen is None:
        console.print("recommended  nothing yet: no run has ended with a result")
        return
    console.print(Text(f"recommended  {chosen.run.name}\nbecause      {chosen.reason}"), soft_wrap=True)
    console.print(Text(f"next         {chosen.command}"), soft_wrap=True)


def _table(sweep: Sweep, flags: dict[str, list[Flag]], chosen: Recommendation | None, most: int) -> Table:
    metrics = [*sweep.metrics[:2], *sweep.scores[:1]]
    order = sorted(sweep.runs, key=lambda run: _order(run, chosen))
    left_out = f", the best {most} of {len(order)}" if len(order) > most else ""
    table = Table(title=f"{sweep.name}{left_out}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    names = ["", *map(short, sweep.parameters), "state", *(name.removeprefix("eval/") for name in metrics)]
    lines = [_cells(run, sweep, flags, chosen, metrics) for run in order[:most]]
    for place, name in enumerate([*names, "step", "time", "tok/s"]):
        widest = max(len(line[place]) for line in lines)  # a long heading is broken, a value never
        table.add_column(Text(name), justify="left" if name in ("", "state") else "right", overflow="fold",
                         min_width=widest)  # fmt: skip
    for line in lines:
        cells = [Text(cell, style=COLOURS.get(cell, "")) for cell in line]
        table.add_row(*cells, style="bold" if line[0] == PICKED else "")
    return table


def _cells(
    run: Run, sweep: Sweep, flags: dict[str, list[Flag]], chosen: Recommendation | None, metrics: list[str]
) -> list[str]:
    rate = run.tokens_per_second
    return [
        PICKED if chosen is not None and run is chosen.run else rows.mark(flags[run.name]),
        *(shown(run.parameter(key)) for key in sweep.parameters),
        run.state,
        *(shown(run.value(name)) for name in metrics),
        f"{run.log.last_step}/{run.steps}" if run.steps else str(run.log.last_step),
        rows.clock(run.seconds),
        "–" if rate is None else f"{rate:,.0f}",
    ]


def _order(run: Run, chosen: Recommendation | None) -> tuple[bool, float]:
    """The recommended run first, then by sft_loss; runs without one last."""
    value = cost(run, SFT)
    return (chosen is None or run is not chosen.run, float("inf") if value is None else value)
