"""Victims: processes to be killed, each forked from one parent that has imported everything, which takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import victims

HERE = Path(__file__).resolve()
Start = Callable[..., "multiprocessing.process.BaseProcess"]


@pytest.fixture(scope="session")
def _server() -> Any:
    """The context whose processes are forked from a server that has imported `victims`; it ends with this process."""
    paths = [str(HERE.parent), str(HERE.parents[1]), str(HERE.parents[2])]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["victims"])
    with pytest.MonkeyPatch.context() as patch:  # the server has its environment, and imports by it, from the start on
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        multiprocessing.forkserver.ensure_running()
    return context


@pytest.fixture
def start(_server, tmp_path) -> Iterator[Start]:
    """Starts `function(*args)` of `victims` in a process; what it says goes to `log`. All end with the test."""
    started = []

    def begin(function: Callable[..., None], *args: Any, log: Path = tmp_path / "said.txt") -> Any:
        process = _server.Process(target=victims.live, args=(function, log, args))
        process.start()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory of a size such as `60m`; the same call with another size grows it."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: str) -> Path:
        how = f"remount,size={size}" if place.is_mount() else f"size={size}"
        found = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", place], capture_output=True, text=True)
        if found.returncode:
            pytest.skip(f"a file system can be mounted by root only: {found.stderr.strip()}")
        return place

    if sys.platform != "linux" or not shutil.which("mount"):
        pytest.skip("there is no mount(8) here")
    yield mount
    if place.is_mount():
        subprocess.run(["umount", "-l", place], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is a fault injection."""
    for item in items:
        if HERE.parent in item.path.parents:
            item.add_marker("faults")
