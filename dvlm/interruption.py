"""A wish to stop, told by a signal. The handler only takes note; the run looks between steps, in validation and while
generating, where it can save and end in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


class Interrupted(Exception):
    """The run was asked to stop, and what it had done is saved."""


class _Wish:
    """Signals belong to a process, so this does too."""

    def __init__(self) -> None:
        self.listening = self.asked = False
        self.looks = 0

    def note(self, number: int, frame: Any) -> None:
        """The signal handler."""
        self.asked = True


_WISH = _Wish()


def asked() -> bool:
    """Whether this process was asked to stop."""
    _WISH.looks += 1
    return _WISH.asked


def looks() -> int:
    """How often this process has asked: a sign that a long generation goes on."""
    return _WISH.looks


def listen() -> None:
    """Handle the signals again, where they are listened to: Lightning replaces the handler of TERM at each start."""
    if _WISH.listening:
        for number in SIGNALS:
            signal.signal(number, _WISH.note)


@contextmanager
def listening() -> Iterator[None]:
    """Take note of USR1, USR2 and TERM during the block; in another thread than the main one they cannot be."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _WISH.listening, _WISH.asked = True, False
    listen()
    try:
        yield
    finally:
        _WISH.listening = _WISH.asked = False
        for number, handler in before.items():
            signal.signal(number, handler)
