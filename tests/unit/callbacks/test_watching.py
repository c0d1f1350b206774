"""What a person sees of a run: lines, speed, pictures."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from support import small_config

from dvlm import assembly
from dvlm.callbacks import progress, step_log
from dvlm.callbacks.health import FirstGradients
from dvlm.callbacks.pictures import compare
from dvlm.callbacks.progress import ProgressBar, ProgressLines, build_progress, summary
from dvlm.callbacks.step_log import StepLog
from dvlm.checks import HealthError
from dvlm.config import LoggerConfig
from dvlm.data.datamodule import CaptionDataModule


@pytest.fixture(scope="module")
def data() -> CaptionDataModule:
    return assembly.build_data(assembly.prepare(small_config("data.sample_limit=4", "data.max_pixels=16384")))


def test_the_summary_of_a_step():
    metrics = {"train/loss": 1.23456, "train/sft_loss": 1.2, "train/kl_loss": 0.01, "perf/tokens_per_second": 2100.4}
    assert summary(metrics) == "loss 1.2346  sft 1.2000  kl 0.0100  tok/s 2100"
    assert summary({"train/loss": 1.0}) == "loss 1.0000"


@pytest.mark.parametrize(("kind", "expected"), [("bar", [ProgressBar]), ("lines", [ProgressLines]), ("none", [])])
def test_the_kinds_of_progress(kind, expected):
    assert [type(callback) for callback in build_progress(kind)] == expected


def test_lines_at_the_last_step_and_after_each_validation(capsys, monkeypatch):
    clock = iter([100.0, 100.5, 101.0, 102.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    lines = ProgressLines()
    trainer = SimpleNamespace(global_step=0, max_steps=3, is_global_zero=True)
    module = SimpleNamespace(latest={"train/loss": 2.0, "eval/loss": 1.5})
    lines.on_train_start(trainer, module)
    for step in (1, 2, 3):
        trainer.global_step = step
        lines.on_train_batch_end(trainer, module)
    lines.on_validation_end(trainer, module)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "step 1/3  loss 2.0000  0:00:01 left",
        "step 3/3  loss 2.0000  0:00:00 left",
        "step 3  eval/loss 1.5000",
    ]


def test_speed_and_waiting_are_measured_over_the_whole_step(monkeypatch):
    """Two micro-batches: waits of 1 s and 2 s, work of 3 s and 4 s, 50 tokens on each of two ranks."""
    clock = iter([0.0, 1.0, 4.0, 6.0, 10.0, 10.0])
    monkeypatch.setattr(step_log.time, "perf_counter", lambda: next(clock))
    published: dict[str, float] = {}
    trainer = SimpleNamespace(global_step=1, log_every_n_steps=1, world_size=2)
    module = SimpleNamespace(
        accumulation=2,
        device=torch.device("cpu"),
        publish=published.update,
        step_tokens=50,
        step_metrics=lambda: {"train/loss": 1.0},
        end_step=lambda: None,
    )
    log = StepLog(lambda: 1.0)
    log.on_train_start(trainer, module)
    for index in range(2):
        log.on_train_batch_start(trainer, module, None, index)
        log.on_train_batch_end(trainer, module, None, None, index)
    assert published["perf/data_wait_share"] == pytest.approx(3 / 10)
    assert published["perf/tokens_per_second"] == pytest.approx(50 * 2 / 10)
    assert published["train/loss"] == 1.0


def test_the_peak_of_a_gpu_is_that_of_its_own_name(monkeypatch):
    assert step_log.peak_flops(torch.device("cpu")) is None
    for name, peak in {
        "NVIDIA L40S": 362e12,
        "NVIDIA L4": 121e12,
        "NVIDIA A100-SXM4-80GB": 312e12,
        "Other": None,
    }.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        assert step_log.peak_flops(torch.device("cuda")) == peak


def test_the_first_gradients_are_looked_at_once():
    good, bad = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    good.grad, bad.grad = torch.ones(2), torch.tensor([1.0, float("nan")])
    trainer = SimpleNamespace(fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_idx=1)))

    def module(parameter: torch.nn.Parameter, must_pull: bool = True) -> SimpleNamespace:
        return SimpleNamespace(accumulation=2, must_pull=must_pull, tower_of_parameters=lambda: {"vit": [parameter]})

    callback = FirstGradients()
    callback.on_before_optimizer_step(trainer, module(bad, must_pull=False), None)
    with pytest.raises(HealthError, match="vit: gradients are not finite"):
        callback.on_before_optimizer_step(trainer, module(bad), None)
    callback = FirstGradients()
    for parameter in (good, bad):
        callback.on_before_optimizer_step(trainer, module(parameter), None)


def test_a_picture_has_truth_and_answer_side_by_side(data):
    sample = data.val_line.sample(0, 0)
    right = compare(sample, sample.answer, data.prompts)
    wrong = compare(sample, '{"图片_1": [{"bbox', data.prompts)
    widths = [image.annotation.width for image in sample.drawn]
    heights = [image.annotation.height for image in sample.drawn]
    for picture in (right, wrong):
        assert picture.shape[0] >= sum(heights)
        assert picture.shape[1] >= 2 * max(widths)
    assert (right[:, : right.shape[1] // 2] != 255).any()
    assert right.shape != wrong.shape or (right != wrong).any()


def test_only_the_chosen_loggers_are_built(tmp_path):
    from dvlm.callbacks.loggers import build_loggers
    from dvlm.config.job import Job

    built = build_loggers(LoggerConfig(tensorboard=False), tmp_path, job=Job(), run_config={}, resumed=None)
    assert [logger.name for logger in built] == ["jsonl"]


def test_a_run_of_a_sweep_keeps_its_identity_in_wandb(tmp_path):
    from dvlm.callbacks.loggers import identity
    from dvlm.config.job import Job
    from dvlm.sweeps.status import Sweep

    sweep = tmp_path / "grid"
    sweep.mkdir()
    job = Job(overrides=("rlhf.beta=0.1", "seed=1"), sweep=sweep)
    Sweep(name="grid", command=[], created="2025-01-01T00:00:00+00:00", jobs=[]).write(sweep)
    first = identity(sweep / "beta-0.1-01234567", job)
    assert (first["group"], first["name"]) == ("grid", "beta-0.1")
    reordered = Job(overrides=("seed=1", "rlhf.beta=0.1"), sweep=sweep)
    assert identity(sweep / "beta-0.1-01234567", reordered)["id"] == first["id"], "a requeue goes on there"
    other = Job(overrides=("rlhf.beta=0.2", "seed=1"), sweep=sweep)
    assert identity(sweep / "beta-0.2-89abcdef", other)["id"] != first["id"]
    Sweep(name="grid", command=[], created="2025-02-02T00:00:00+00:00", jobs=[]).write(sweep)
    assert identity(sweep / "beta-0.1-01234567", job)["id"] != first["id"], "another sweep of that name"
    assert "group" not in identity(tmp_path / "run", Job())
