"""Who starts the ranks: torchrun, srun or submitit, never Lightning. A wrong launch is refused at once."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from dvlm.config import TrainConfig, TrainerConfig
from dvlm.values import InputError

NO_ID = "none"  # torchrun's run id where nobody gave one: two runs would share a directory


@dataclass(frozen=True)
class Launcher:
    """Who started this process, and how many: on all nodes, and on this one (None where it does not say)."""

    name: str
    ranks: int
    local_ranks: int | None = None


def launcher(variables: Mapping[str, str]) -> Launcher | None:
    """What the environment says of a launcher; None for a process that a person started."""
    if "TORCHELASTIC_RUN_ID" in variables:
        return Launcher("torchrun", int(variables["WORLD_SIZE"]), int(variables["LOCAL_WORLD_SIZE"]))
    if "SUBMITIT_LOCAL_NTASKS" in variables:
        return Launcher("submitit", int(variables["SUBMITIT_LOCAL_NTASKS"]), int(variables["SUBMITIT_LOCAL_NTASKS"]))
    if "SLURM_STEP_NUM_TASKS" in variables:  # set by srun, not in the batch script around it
        return Launcher("srun", int(variables["SLURM_STEP_NUM_TASKS"]))
    return None


def check(config: TrainConfig, variables: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Raise InputError where the ranks that run are not those that the configuration names, or a package is missing.

    `arguments` are those of the command, for the line that would be right.
    """
    _check_packages(config)
    settings, started = config.trainer, launcher(variables)
    world = settings.devices * settings.num_nodes
    if started is None:
        if world > 1:
            raise InputError(
                f"trainer.devices is {settings.devices} and trainer.num_nodes {settings.num_nodes}, but no launcher "
                f"started the {world} ranks; run\n  {torchrun(settings, arguments)}"
            )
        return
    if started.ranks != world or started.local_ranks not in (None, settings.devices):
        local = "" if started.local_ranks is None else f", {started.local_ranks} of them on this node"
        raise InputError(
            f"{started.name} started {started.ranks} ranks{local}, but the configuration has trainer.devices="
            f"{settings.devices} (ranks of a node) and trainer.num_nodes={settings.num_nodes}; set both to what runs"
        )
    if variables.get("TORCHELASTIC_RUN_ID") == NO_ID:
        raise InputError(
            "torchrun gave this run no id, and its directory is named by it; add --standalone on one node, or "
            "--rdzv-id=<name> on several"
        )


def torchrun(settings: TrainerConfig, arguments: Sequence[str]) -> str:
    """The command that starts the ranks of a node; it is run on each of them."""
    nodes = "--standalone"
    if settings.num_nodes > 1:
        nodes = f"--nnodes={settings.num_nodes} --rdzv-id=<name> --rdzv-backend=c10d --rdzv-endpoint=<first node>:29500"
    return f"torchrun {nodes} --nproc-per-node={settings.devices} -m dvlm.train {shlex.join(arguments)}".rstrip()


def _check_packages(config: TrainConfig) -> None:
    if config.trainer.strategy in ("zero2", "zero3") and find_spec("deepspeed") is None:
        raise InputError(
            f"trainer.strategy is {config.trainer.strategy}, but deepspeed is not installed; "
            "pip install 'dvlm[gpu]', or use trainer=fsdp"
        )
    if config.model.attn_impl == "flash_attention_2" and find_spec("flash_attn") is None:
        raise InputError(
            "model.attn_impl is flash_attention_2, but flash-attn is not installed; "
            "pip install 'dvlm[gpu]' on a GPU machine, or use model.attn_impl=sdpa"
        )
