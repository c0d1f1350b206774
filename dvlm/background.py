"""Work beside the main thread, one piece after the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Does work in the order in which it is given. A piece that fails ends the row: what waits behind it is not done,
    and `settle` raises its error."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)
        self._last: Future[None] | None = None

    def do(self, work: Callable[[], None]) -> None:
        """Put `work` at the end of the row and return."""
        before = self._last

        def then() -> None:
            if before is not None:
                before.result()  # has ended: there is one thread
            work()

        self._last = self._pool.submit(then)

    def settle(self) -> None:
        """Wait until nothing is left to do; raises the error that ended the row, once."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
