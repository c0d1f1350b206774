"""What a person sees while a run trains: a bar on a terminal, else a line every so often."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_SECONDS = 10.0
SHOWN = {"train/loss": "loss", "train/sft_loss": "sft", "train/kl_loss": "kl", "perf/tokens_per_second": "tok/s"}


def summary(metrics: dict[str, Any]) -> str:
    """`loss 1.2345  sft 1.2340  kl 0.0051  tok/s 2100` of what has been logged so far."""
    parts = []
    for key, label in SHOWN.items():
        if key in metrics:
            value = float(metrics[key])
            parts.append(f"{label} {value:.0f}" if label == "tok/s" else f"{label} {value:.4f}")
    return "  ".join(parts)


class ProgressBar(L.Callback):
    """One live bar: steps, loss terms, tokens a second, time left."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=Console(file=sys.stderr))
        self.task: Any = None

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Show the bar, from where the run starts."""
        if trainer.is_global_zero:
            self.task = self.bar.add_task(
                "training", total=trainer.max_steps, completed=trainer.global_step, metrics=""
            )
            self.bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        """Move it."""
        if self.task is not None:
            text = summary(module.latest)
            self.bar.update(self.task, completed=trainer.global_step, metrics=text)

    def on_validation_start(self, trainer: L.Trainer, module: Any) -> None:
        """Say that a validation is running."""
        if self.task is not None:
            self.bar.update(self.task, description="validating")

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Back to training."""
        if self.task is not None:
            self.bar.update(self.task, description="training")

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        """Leave the finished bar on the screen."""
        self._stop()

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def _stop(self) -> None:
        if self.task is not None:
            self.bar.stop()
            self.task = None


class ProgressLines(L.Callback):
    """For logs: one line at most every ten seconds, and one for each validation."""

    def __init__(self) -> None:
        self.started = self.printed = 0.0
        self.first = 0

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Start the clock."""
        self.started = time.monotonic()
        self.first = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        """Print a line when the last one is old enough, and for the last step."""
        now, step = time.monotonic(), trainer.global_step
        finished = step >= trainer.max_steps
        if not trainer.is_global_zero or (now - self.printed < LINE_SECONDS and not finished) or step == self.first:
            return
        self.printed = now
        left = (now - self.started) / (step - self.first) * (trainer.max_steps - step)
        print(f"step {step}/{trainer.max_steps}  {summary(module.latest)}  {_clock(left)} left", flush=True)

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Print the result of the validation."""
        if trainer.is_global_zero:
            names = ("eval/loss", "eval/sft_loss", "eval/kl_loss", "eval/token_accuracy")
            shown = [f"{n} {float(module.latest[n]):.4f}" for n in names if n in module.latest]
            print(f"step {trainer.global_step}  " + "  ".join(shown), flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def build_progress(kind: str) -> list[L.Callback]:
    """The callback of `callbacks.progress`; auto is a bar on a terminal."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "lines"
    if kind == "none":
        return []
    return [ProgressBar() if kind == "bar" else ProgressLines()]
