"""`python -m dvlm.report`: from the run directories of a sweep to a decision. Live sweeps can be watched."""

from __future__ import annotations

import time
from pathlib import Path

from dvlm.config import ReportConfig
from dvlm.config.compose import run_verb


def main() -> None:
    """The command line."""
    run_verb("report", report)


def report(config: ReportConfig) -> None:
    """Write page, figures, CSV and JSON, and print the table; with `watch`, anew until the sweep has ended."""
    from rich.console import Console

    from dvlm.reporting import sweep, terminal
    from dvlm.reporting.progress import progress
    from dvlm.reporting.report import Report

    console, directory = Console(), Path(config.sweep_dir)
    output = Path(config.output) if config.output else directory / "report"
    while True:
        read = sweep.read(directory, Path(config.baseline) if config.baseline else None)
        made = Report.of(read, metric=config.metric, max_kl=config.max_kl)
        live = config.watch and not read.ended
        page = made.write(output, refresh=config.interval if live else None)
        if config.watch and console.is_terminal:
            console.clear()
        terminal.show(console, read, made.flags, made.chosen, config.rows)
        console.print(f"page         {page} ({page.stat().st_size / 1e6:.1f} MB)", soft_wrap=True, highlight=False)
        if not read.ended:
            console.print(f"progress     {progress(directory)}", soft_wrap=True, highlight=False)
        if not live:
            return
        time.sleep(config.interval)


if __name__ == "__main__":
    main()
