"""What victims do. The server that they are forked from imports this file, and with it all that they need.

Only imports happen in the server: a fork after torch has started threads of its own would hang.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers.models.qwen3_vl.modeling_qwen3_vl
import transformers.models.qwen3_vl.processing_qwen3_vl  # noqa: F401
from safetensors.torch import save_file
from support import small_config
from tiny_runs import SHORT, run

import dvlm.assembly  # noqa: F401
from dvlm.callbacks.jsonl_logger import JsonlLogger
from dvlm.checkpoints import TRAINER, CheckpointStore, newest, saved_step
from dvlm.learning.gkd import GKDModule
from dvlm.learning.module import SFTModule
from dvlm.scale.file import StraightIO
from dvlm.sweeps.attempt import carry_out
from dvlm.sweeps.place import Place
from dvlm.train import train

torch.set_num_threads(1)
WEIGHTS = "model.safetensors"


def live(function: Callable[..., None], log: Path, args: tuple[Any, ...]) -> None:
    """Call `function`, with what it says in `log`."""
    with log.open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    function(*args)


def kill_me(after: float = 0.0) -> None:
    """`kill -9` for this process, `after` so many seconds."""

    def killer() -> None:
        time.sleep(after)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=killer, daemon=True).start()


def save_forever(run: Path, scratch: Path, ready: Connection) -> None:
    """Save as fast as it goes, from the newest checkpoint on; some steps twice. TMPDIR is `scratch`.

    Each number in a checkpoint is its step.
    """
    os.environ["TMPDIR"], tempfile.tempdir = str(scratch), None
    store = CheckpointStore(run / "checkpoints")
    store.clean()
    found = newest(store.root)
    first = saved_step(found) if found else 0
    log = JsonlLogger(run, (run, first))
    ready.send(first)
    for step in itertools.count(first + 1):
        log.log_metrics({"train/loss": step}, step)
        log.sync()
        for _ in range(1 + step % 2):
            with store.writing(step) as directory:
                state = {"weight": torch.full((1 << 20,), float(step))}
                StraightIO().save_checkpoint({"state_dict": state}, directory / TRAINER)
                weights = {f"weight {number}": torch.full((64, 256), float(step)) for number in range(4)}
                (directory / "nested").mkdir()
                save_file(weights, directory / "nested" / WEIGHTS)
                (directory / "config.json").write_text(str(step))
        if step % 3 == 0:
            store.point("best", step)
        store.prune(2)


def train_in(directory: Path, overrides: tuple[str, ...]) -> None:
    """One start of a run, as its command does it."""
    carry_out(train, small_config(*SHORT, *overrides), directory, Place.here({}))


def train_until(directory: Path, overrides: tuple[str, ...], step: int, within: float) -> None:
    """A start that is killed within `within` seconds after it has begun a step (0: the first), wherever it is then."""
    begin, armed = GKDModule.training_step, []

    def training_step(module: GKDModule, *args: Any) -> Any:
        if module.trainer.global_step >= step and not armed:
            armed.append(True)
            kill_me(random.uniform(0, within))
        return begin(module, *args)

    GKDModule.training_step = training_step  # type: ignore[method-assign]
    train_in(directory, overrides)


def train_command(*arguments: str) -> None:
    """`python -m dvlm.train`, in this process."""
    from dvlm import train as verb

    sys.argv = ["dvlm.train", *arguments]
    verb.main()


def misbehave(case: str) -> None:
    """What rank 1 does in its second step."""
    if case == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if case == "stuck":
        time.sleep(600)
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")


def train_as_rank(directory: Path, number: int, port: int, overrides: tuple[str, ...]) -> None:
    """One of two ranks."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "two", "RANK": str(number)}
    os.environ["LOCAL_RANK"] = str(number)
    options = ("trainer.devices=2", "data.packs_per_step=2", "trainer.accelerator=cpu", "trainer.eval_at_start=false")
    run(directory / "run", *options, "data.demo.train=12", "trainer.save_steps=1", *overrides)


def train_to_a_fault(directory: Path, case: str, number: int, port: int, timeout: float) -> None:
    """One of two ranks, of which the second meets its fault in the second step, told by the file `fault`."""
    begin = SFTModule.training_step

    def training_step(module: SFTModule, *args: Any) -> Any:
        if module.trainer.global_step == 1 and number == 1:
            (directory / "fault").touch()
            misbehave(case)
        return begin(module, *args)

    SFTModule.training_step = training_step  # type: ignore[method-assign]
    train_as_rank(directory, number, port, (f"trainer.rank_timeout_s={timeout}",))
