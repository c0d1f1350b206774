"""Work beside the main thread: its order, and what becomes of an error."""

from __future__ import annotations

import threading

import pytest

from dvlm.background import Background


def test_work_is_done_in_order_while_the_caller_goes_on():
    done, gate = [], threading.Event()
    background = Background("test")
    background.do(lambda: done.append(gate.wait(60)))
    background.do(lambda: done.append("second"))
    assert done == []
    gate.set()
    background.settle()
    assert done == [True, "second"]


def test_an_error_ends_the_row_and_is_raised_once():
    done: list[str] = []

    def refuse() -> None:
        raise OSError(28, "No space left on device")

    background = Background("test")
    background.do(refuse)
    background.do(lambda: done.append("never"))
    with pytest.raises(OSError, match="No space left"):
        background.settle()
    assert done == []
    background.do(lambda: done.append("again"))
    background.settle()
    assert done == ["again"]
