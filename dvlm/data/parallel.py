"""One function over many chunks of work, in as many processes as there are cores, in order."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

FROM = 4  # chunks: fewer are done sooner than processes start

# The function of a worker process: handed over by fork, since what it holds is far larger than a chunk.
_function: Callable[[Any], Any] | None = None


def in_parallel(function: Callable[[Any], Any], chunks: Sequence[Any]) -> Iterator[Any]:
    """`function` of each chunk, in order; in this process where there are few chunks, or one core."""
    processes = min(len(os.sched_getaffinity(0)), len(chunks))
    if len(chunks) < FROM or processes < 2:
        yield from map(function, chunks)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, context, initializer=_take, initargs=(function,)) as pool:
        yield from pool.map(_call, chunks)


def _take(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function


def _call(chunk: Any) -> Any:
    assert _function is not None
    return _function(chunk)
