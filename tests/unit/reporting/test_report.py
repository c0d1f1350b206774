"""A sweep's run directories become a decision, a page, figures, CSV and JSON."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_sweep import make, run

from dvlm.config.compose import compose
from dvlm.reporting import sweep as sweeps
from dvlm.reporting import terminal
from dvlm.reporting.report import Report
from dvlm.reporting.runs import KL, SFT
from dvlm.sweeps import lock
from dvlm.sweeps.place import Place
from dvlm.values import InputError

EVIL = "<script>alert(1)</script> & $x$ 中文"


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """12 runs, two of them failed, one of these with an error that would be a script."""
    made = make(tmp_path_factory.mktemp("sweeps") / "demo", runs=12, steps=80, every=10)
    failed = next(made.glob("*-00000000")) / "status.json"
    failed.write_text(json.dumps(json.loads(failed.read_text()) | {"error": EVIL}))
    return made


@pytest.fixture(scope="module")
def report(directory) -> Report:
    return Report.of(sweeps.read(directory), metric=None, max_kl=None)


@pytest.fixture(scope="module")
def written(report, directory) -> Path:
    return report.write(directory / "report")


def test_the_recommended_run_is_on_the_front_and_ended_well(report):
    chosen = report.chosen.run
    assert chosen.state == "succeeded"
    for other in report.sweep.runs:
        if other.usable and other is not chosen:
            assert other.value(KL) >= chosen.value(KL) or other.value(SFT) >= chosen.value(SFT)
    least, most = (pick(run.value(SFT) for run in report.sweep.runs if run.usable) for pick in (min, max))
    assert least < chosen.value(SFT) < most, "neither end of the front"
    assert f"checkpoint={chosen.directory} " in report.chosen.command


def test_a_bound_and_a_metric_decide_otherwise(directory):
    sweep = sweeps.read(directory)
    bound = Report.of(sweep, metric=None, max_kl=0.1).chosen
    allowed = [run for run in sweep.runs if run.usable and run.value(KL) <= 0.1]
    assert bound.run.value(SFT) == min(run.value(SFT) for run in allowed)
    assert "at most 0.1" in bound.reason
    by_kl = Report.of(sweep, metric=KL, max_kl=None).chosen
    assert by_kl.run.value(KL) == min(run.value(KL) for run in sweep.runs if run.usable)
    with pytest.raises(InputError, match="metric is 'eval/f2', which no run has logged; logged are eval/sft_loss"):
        Report.of(sweep, metric="eval/f2", max_kl=None)


def test_what_is_written(written, report):
    folder = written.parent
    rows = list(csv.DictReader(io.StringIO((folder / "runs.csv").read_text(encoding="utf-8"))))
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert len(rows) == len(facts["runs"]) == 12
    assert {row["state"] for row in rows} == {"succeeded", "failed"}
    assert float(rows[5]["rlhf.beta"]) == 0.5
    assert facts["recommended"]["run"] == report.chosen.run.name
    assert facts["parameters"] == ["rlhf.beta", "optim.learning_rate"], "one lmbda, one seed"
    for name in ("front", "heat_maps", "curves", "parallel", "importance"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_loads_nothing_and_runs_one_script(written):
    text = written.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x$ 中文" in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert f"script-src &#x27;sha256-{digest}&#x27;" in text


def test_the_terminal_names_failures_and_the_command(report):
    out = io.StringIO()
    terminal.show(Console(file=out, width=100), report.sweep, report.flags, report.chosen, most=3)
    text = out.getvalue()
    assert text.count("succeeded") == 3, "the table is cut to three runs"
    assert f"failed  {report.sweep.runs[0].name}: {EVIL}" in text
    assert report.chosen.command in text


def test_a_live_sweep(tmp_path):
    """A job that has not begun, one that has logged nothing yet, one in the middle of a line."""
    sweep = make(tmp_path / "live", runs=3, steps=40, every=10, failed=0)
    waiting, starting, running = (
        sweep / job["directory"] for job in json.loads((sweep / "sweep.json").read_text())["jobs"]
    )
    waiting.rename(tmp_path / "gone")
    (starting / "logging.jsonl").unlink()
    for each in (starting, running):
        status = json.loads((each / "status.json").read_text()) | {"state": "running", "ended": None}
        (each / "status.json").write_text(json.dumps(status))
    with (running / "logging.jsonl").open("a") as handle:
        handle.write('{"step": 41, "train/loss": 1')
    here = Place.here(os.environ)
    with lock.held(starting, here), lock.held(running, here):
        read = sweeps.read(sweep)
    assert [run.state for run in read.runs] == ["waiting", "running", "running"]
    assert [run.state for run in sweeps.read(sweep).runs] == ["waiting", "failed", "failed"], "their process is gone"
    assert not read.ended
    assert read.runs[0].parameter("rlhf.beta") == 0, "known from sweep.json alone"
    assert read.runs[2].log.last_step == 40
    made = Report.of(read, metric=None, max_kl=None)
    assert made.chosen is None, "nothing has ended"
    assert 'http-equiv="refresh" content="5"' in made.write(tmp_path / "out", refresh=5).read_text()


def test_baselines_are_the_sft_runs_and_the_one_given(directory, tmp_path):
    values = {"rlhf.beta": 0.0, "rlhf.lmbda": 0.0, "optim.learning_rate": 1e-3, "seed": 1}
    run(tmp_path / "sft", values, [], steps=40, every=10)
    read = sweeps.read(directory, tmp_path / "sft")
    assert [each.name for each in read.baselines] == ["sft", "beta0_lmbda0_lr0.0001-00000006"]
    with pytest.raises(InputError, match="baseline: .* is not a run with validations"):
        sweeps.read(directory, tmp_path)


def test_no_sweep_there(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        sweeps.read(tmp_path)
    with pytest.raises(InputError, match="there is no directory"):
        sweeps.read(tmp_path / "none")


def test_the_knob_is_spelled_as_a_config_group():
    assert compose("report", ["sweep=outputs/中 文,=()"]).sweep_dir == "outputs/中 文,=()"
    with pytest.raises(InputError, match="sweep has no value; give sweep=<value>"):
        compose("report", [])
    with pytest.raises(InputError, match="sweep is empty"):
        compose("report", ["sweep=''"])
