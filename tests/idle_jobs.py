"""A stand-in for `python -m dvlm.train` whose jobs do nothing: real Hydra, launcher, locks and sweeper around it.

A job appends its trial to `started` beside the run directories, waits, logs two losses that depend on beta and the
learning rate alone, and appends to `ended`. `seed=13` fails.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from dvlm.config import TrainConfig
from dvlm.config.compose import run_verb
from dvlm.sweeps.attempt import carry_out
from dvlm.sweeps.place import Place

PAUSE = 0.3  # seconds


def work(config: TrainConfig, directory: Path) -> float:
    """The job."""
    trial = HydraConfig.get().sweeper.get("trial")
    note(directory.parent / "started", trial)
    time.sleep(PAUSE)
    if config.seed == 13:
        raise ValueError("seed 13 fails")
    beta, rate = config.rlhf.beta, config.optim.learning_rate
    losses = {"eval/sft_loss": 1 + beta - 100 * rate, "eval/kl_loss": 0.1 / (0.1 + beta) + 10 * rate}
    (directory / "logging.jsonl").write_text(json.dumps({"step": 1, **losses}) + "\n", encoding="utf-8")
    note(directory.parent / "ended", trial)
    return losses["eval/sft_loss"]


def note(file: Path, trial: int | None) -> None:
    """Append one line, whole."""
    with file.open("a", encoding="utf-8") as handle:
        handle.write(f"{trial}\n")


def start(config: TrainConfig) -> float:
    """What `dvlm.train.start` does, around other work."""
    return carry_out(work, config, Path(HydraConfig.get().runtime.output_dir), Place.here(os.environ))


if __name__ == "__main__":
    run_verb("train", start)
