"""A rank that is dead or stuck ends the job soon, named, instead of leaving the others to wait for it.

A thread of each rank tells the others once a second that it lives, how far its main thread has come, and where that is.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any

import lightning as L
import torch.distributed as dist

from dvlm import interruption
from dvlm.interruption import Interrupted

EXIT_CODE = 70  # of a rank that ends because of another
# The main thread is inside a collective. A barrier is none: in it ranks may wait long for rank 0 to write.
WAITING = ("torch/distributed/", "deepspeed/comm/")
LOST = ("gloo", "nccl", "connection", "peer", "store")  # what an error says that another rank's end has caused


@dataclass(frozen=True)
class Pulse:
    """What a rank says of itself: where it runs, how often it has spoken, how far it has come, and where it is.

    `looks` moves while the rank writes answers, of which ranks may have different numbers.
    """

    who: str
    beat: int = 0
    progress: int = 0
    looks: int = 0
    waiting: bool = False
    at: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Sight:
    """The last pulse of a rank, and since when (monotonic seconds) its beat and its progress are what they are."""

    pulse: Pulse
    beat_since: float
    progress_since: float

    def seen(self, pulse: Pulse, now: float) -> Sight:
        """After another look."""
        return Sight(
            pulse,
            self.beat_since if pulse.beat == self.pulse.beat else now,
            self.progress_since if self._still(pulse) else now,
        )

    def _still(self, pulse: Pulse) -> bool:
        return (pulse.progress, pulse.looks) == (self.pulse.progress, self.pulse.looks)


def verdict(sights: Mapping[int, Sight], now: float, timeout: float) -> str | None:
    """What is wrong with which rank; None while nothing is.

    A rank has failed when it says so, is dead when it is silent for `timeout` seconds, and stuck when it has not moved
    for so long while another is ahead of it, or while another waits in a collective and it does not.
    """
    for rank, sight in sights.items():
        if sight.pulse.failed:
            return f"{_name(rank, sight)} has failed: {sight.pulse.failed}"
    for rank, sight in sights.items():
        if now - sight.beat_since > timeout:
            return f"{_name(rank, sight)} is dead: nothing was heard of it for {timeout:g} s"
    still = {rank: sight for rank, sight in sights.items() if now - sight.progress_since > timeout}
    furthest = max(sight.pulse.progress for sight in sights.values())
    waited_for = len(still) == len(sights) and any(sight.pulse.waiting for sight in still.values())
    for rank, sight in still.items():
        if sight.pulse.progress < furthest or (waited_for and not sight.pulse.waiting):
            return f"{_name(rank, sight)} is stuck: it has not moved for {timeout:g} s, at {sight.pulse.at}"
    return None


def _name(rank: int, sight: Sight) -> str:
    return f"rank {rank} ({sight.pulse.who})"


class Watch(L.Callback):
    """Watches over all ranks from the first set-up until `watched` ends. `timeout` in seconds.

    Between two calls of its hooks a rank must not be busy for longer than that while others wait for it.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout, self.pause = timeout, min(1.0, timeout / 5)
        self.pulse = Pulse(f"{platform.node()}, process {os.getpid()}")
        self._store: Any = None
        self._over = threading.Event()
        self._main = threading.main_thread().ident
        self._rank, self._ranks = 0, range(1)

    def setup(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        """Start to watch, once."""
        if self._store is not None or trainer.world_size == 1:
            return
        self._rank, self._ranks = trainer.global_rank, range(trainer.world_size)
        environment: Any = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
        first, patience = self._rank == 0, timedelta(seconds=self.timeout)
        host = environment.main_address
        # A store of its own: in the one of the process group a waiting collective would hold up the pulse.
        store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=patience) if first else None
        port = trainer.strategy.broadcast(store.port if store else 0)
        self._store = store or dist.TCPStore(host, port, is_master=False, timeout=patience)
        self._tell()
        trainer.strategy.barrier("watch")
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._over.set()

    def _move(self, *_: Any, **__: Any) -> None:
        self.pulse = replace(self.pulse, progress=self.pulse.progress + 1)

    on_train_batch_start = on_before_backward = on_after_backward = on_train_batch_end = _move
    on_validation_batch_start = on_validation_batch_end = on_validation_start = on_validation_end = _move
    on_train_start = on_train_end = _move

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        """Tell the others why this rank ends; if it ends because of another, let that one be named first."""
        if self._store is None or self._over.is_set():
            return
        if isinstance(exception, Interrupted) or not isinstance(exception, Exception):
            self.stop()  # all ranks were asked to stop
            return
        text = f"{type(exception).__name__}: {exception}".splitlines()[0]
        if isinstance(exception, RuntimeError) and any(word in text.lower() for word in LOST):
            self._over.wait(self.timeout + 3 * self.pause)
            return
        self.pulse = replace(self.pulse, failed=text)
        self._tell()
        self.stop()
        time.sleep(3 * self.pause)  # until they have read it: this process may hold the store

    def _tell(self) -> None:
        frames = traceback.extract_stack(sys._current_frames().get(self._main or 0))
        last = frames[-1] if frames else None
        self.pulse = replace(
            self.pulse,
            beat=self.pulse.beat + 1,
            looks=interruption.looks(),
            waiting=last is not None and last.name != "barrier" and any(part in last.filename for part in WAITING),
            at=f"{last.filename}:{last.lineno} in {last.name}" if last else "",
        )
        self._store.set(str(self._rank), json.dumps(asdict(self.pulse)))

    def _look(self) -> None:
        sights: dict[int, Sight] = {}
        while not self._over.wait(self.pause):
            now = time.monotonic()
            try:
                self._tell()
                pulses = [Pulse(**json.loads(said)) for said in self._store.multi_get(list(map(str, self._ranks)))]
            except (RuntimeError, OSError):
                self._end("rank 0, which keeps what the ranks say of themselves, is dead")
                return
            for rank, pulse in enumerate(pulses):
                sights[rank] = sights[rank].seen(pulse, now) if rank in sights else Sight(pulse, now, now)
            others = {rank: sight for rank, sight in sights.items() if rank != self._rank or not sight.pulse.failed}
            if wrong := verdict(others, now, self.timeout):
                self._end(wrong)
                return

    def _end(self, wrong: str) -> None:
        if self._over.wait(self.pause):  # the run has ended meanwhile, and the store with it
            return
        hint = "raise trainer.rank_timeout_s if that was no fault" if "stuck" in wrong else "see what it said last"
        print(f"error: {wrong}; rank {self._rank} ends; {hint}", file=sys.stderr, flush=True)
        # The main thread may wait in a collective for ever: no exception would reach it.
        os._exit(EXIT_CODE)


@contextmanager
def watched(trainer: L.Trainer) -> Iterator[None]:
    """A run in which `Watch`, if it is among the callbacks, looks at the ranks until all of them are through."""
    watches = [callback for callback in trainer.callbacks if isinstance(callback, Watch)]  # type: ignore[attr-defined]
    try:
        yield
        trainer.strategy.barrier("watched")
    finally:
        for watch in watches:
            watch.stop()
