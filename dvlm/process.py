"""What a process sets once before it trains: threads, seeds of the libraries, and which of their messages are shown."""

from __future__ import annotations

import logging
import warnings

import lightning as L
import torch
from transformers.utils import logging as transformers_logging

from dvlm.config import TrainConfig


def set_up(config: TrainConfig) -> None:
    """Seed torch (LoRA dropout is all that draws from it), bound its threads, and silence what is said twice."""
    L.seed_everything(config.seed, verbose=False)
    if config.trainer.cpu_threads is not None:
        torch.set_num_threads(config.trainer.cpu_threads)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        # Lightning prints by handlers of its own what the root logger prints and files as well.
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.INFO if config.debug else logging.WARNING)
    if not config.debug:
        quiet_libraries()


def quiet_libraries() -> None:
    """Leave out progress bars of loading, and warnings of the libraries that a user could not act on."""
    transformers_logging.disable_progress_bar()
    # Lightning and transformers call deprecated functions of torch and of themselves.
    for module in ("lightning", "transformers", "torch"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)
        warnings.filterwarnings("ignore", message=".*deprecated.*", module=module)
    # Ours starts at the pack that the run had reached, which Lightning cannot know.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # torchrun starts ranks as well, and one process needs no launcher.
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    # BOFT does without: it is asked for one butterfly factor anyway.
    warnings.filterwarnings("ignore", message="Failed to load the CUDA extension.*|Setting boft_n_butterfly_factor.*")
    # Where it is installed, whole models are saved by way of DeepSpeed, whatever the strategy.
    logging.getLogger("DeepSpeed").addFilter(lambda said: "Setting accelerator to CPU" not in said.getMessage())
    # A run without validation records.
    warnings.filterwarnings("ignore", message=".*Total length of `list` across ranks is zero.*")
