"""The W&B workspace of a project as code: losses of each run, of each sweep, and over what a sweep varies."""

from __future__ import annotations

import json
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

STEP = "trainer/global_step"
LOSSES = ("kl_loss", "sft_loss")
VARIED = ("rlhf.beta", "rlhf.lmbda", "optim.learning_rate")
SPEED = ("perf/tokens_per_second", "perf/data_wait_share", "train/grad_norm")


def workspace(entity: str, project: str, name: str) -> ws.Workspace:
    """The sections: per run, per sweep (the W&B group), over beta, speed."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            _section("Losses of each run", [*_curves("eval"), *_curves("train"), _curve("eval/token_accuracy")]),
            _section("Losses of each sweep", [_of_sweeps(f"eval/{loss}") for loss in LOSSES]),
            _section("Over beta", [*_over_beta(), _front(), _parallel(), *_importance()]),
            _section("Speed and health", [_curve(metric) for metric in SPEED]),
        ],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=100),
    )


def as_json(made: ws.Workspace) -> dict[str, Any]:
    """What `save` would send. (The library offers this only under a private name: its version is bounded for that.)"""
    return dict(json.loads(made._to_model().model_dump_json(by_alias=True)))


def _section(name: str, panels: list[Any]) -> ws.Section:
    return ws.Section(name=name, panels=panels, is_open=True)


def _curve(metric: str) -> wr.LinePlot:
    return wr.LinePlot(title=metric, x=STEP, y=[metric])


def _curves(split: str) -> list[wr.LinePlot]:
    return [_curve(f"{split}/{loss}") for loss in LOSSES]


def _of_sweeps(metric: str) -> wr.LinePlot:
    title = f"{metric}, mean and range of a sweep"
    return wr.LinePlot(
        title=title, x=STEP, y=[metric], groupby="Group", groupby_aggfunc="mean", groupby_rangefunc="minmax"
    )


def _over_beta() -> list[wr.ScatterPlot]:
    beta = wr.Config("rlhf.beta")
    return [
        wr.ScatterPlot(title=f"eval/{loss} over beta", x=beta, y=wr.SummaryMetric(f"eval/{loss}")) for loss in LOSSES
    ]


def _front() -> wr.ScatterPlot:
    first, second = (wr.SummaryMetric(f"eval/{loss}") for loss in LOSSES)
    return wr.ScatterPlot(title="sft_loss against kl_loss", x=first, y=second, z=wr.Config("rlhf.beta"))


def _parallel() -> wr.ParallelCoordinatesPlot:
    ends: list[Any] = [*(wr.Config(key) for key in VARIED), *(wr.SummaryMetric(f"eval/{loss}") for loss in LOSSES)]
    columns = [wr.ParallelCoordinatesPlotColumn(metric=end) for end in ends]
    return wr.ParallelCoordinatesPlot(title="parameters and losses", columns=columns)


def _importance() -> list[wr.ParameterImportancePlot]:
    return [wr.ParameterImportancePlot(with_respect_to=f"eval/{loss}") for loss in LOSSES]
