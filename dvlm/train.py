"""`python -m dvlm.train`: one run, from configuration to checkpoint."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from dvlm.config import TrainConfig
from dvlm.config.compose import run_verb
from dvlm.config.job import Job

if TYPE_CHECKING:
    from pathlib import Path


def main() -> None:
    """The command line."""
    run_verb("train", start)


def start(config: TrainConfig) -> float:
    """Run under Hydra, in Hydra's output directory."""
    from functools import partial
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from dvlm.scale import launch

    launch.check(config, os.environ, sys.argv[1:])  # before torch is loaded

    from dvlm.sweeps.attempt import carry_out
    from dvlm.sweeps.place import Place

    if config.trainer.accelerator == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read by DeepSpeed, which else takes a GPU that is there
    # Workers are forked: a tokenizer that has used threads before would warn, and then use none.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    work = partial(train, job=Job.current())
    return carry_out(work, config, Path(HydraConfig.get().runtime.output_dir), Place.here(os.environ))


def train(config: TrainConfig, directory: Path, job: Job | None = None) -> float:
    """Train in `directory`, as the `job` of a sweep or alone.

    Returns the last value of `trainer.metric_for_best_model`, nan without validation.
    """
    # Imported here: a typo in the configuration is reported before torch is loaded.
    from dvlm import assembly, process

    process.set_up(config)
    config = assembly.prepare(config.effective())
    data = assembly.build_data(config)
    assembly.check_samples(data)
    tuned = assembly.build_model(config)
    module = assembly.build_module(config, tuned, data)
    trainer = assembly.build_trainer(config, directory, module, data, job or Job())
    return assembly.fit(config, directory, trainer, module, data)


if __name__ == "__main__":
    main()
