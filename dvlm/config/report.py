"""The roots of `report` and `dashboard`: a sweep as a page, and as a W&B workspace."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.knob import at_least, check_paths, knob, one_of


@dataclass
class ReportConfig:
    """`python -m dvlm.report`: the runs of a sweep, finished or not, become tables, figures and a recommendation."""

    sweep_dir: str = knob("???", "directory of the sweep, such as outputs/sweeps/<name>", path=True, spelled="sweep")
    output: str | None = knob(None, "directory of the page and its files; null: report/ in the sweep", path=True)
    baseline: str | None = knob(None, "an SFT run to hold the runs against, beside those of the sweep", path=True)
    metric: str | None = knob(
        None, "what the recommended run is best in; null: a caption score, else the front of kl_loss and sft_loss"
    )
    max_kl: float | None = knob(None, "recommend only runs with eval/kl_loss of at most this", "nats a token")
    rows: int = knob(30, "runs in the table of the terminal; the page has all", "runs")
    watch: bool = knob(False, "write and print anew every so often, until nothing of the sweep runs any more")
    interval: float = knob(15.0, "time between two reports with watch=true", "seconds")

    def __post_init__(self) -> None:
        check_paths("", self)
        at_least("max_kl", self.max_kl, 0.0)
        at_least("rows", self.rows, 1)
        at_least("interval", self.interval, 1.0)


@dataclass
class DashboardConfig:
    """`python -m dvlm.dashboard`: the W&B workspace of a project: losses of each run, of each sweep, and over beta."""

    project: str = knob("dvlm", "W&B project, as in logger.wandb.project")
    entity: str | None = knob(None, "W&B team or user; null: the account's default")
    name: str = knob("GKD sweeps", "name of the workspace", text=True)
    mode: str = knob("auto", "auto (offline without a key) | online | offline")
    output: str = knob("outputs/dashboard.json", "the file to write when offline", path=True)

    def __post_init__(self) -> None:
        check_paths("", self)
        one_of("mode", self.mode, ("auto", "online", "offline"))
