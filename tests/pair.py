"""Two processes as a launcher starts them, ended together, whatever happens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()
PATHS = [str(path) for path in (HERE.parent / "smoke", HERE.parent, HERE.parents[1])]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(code: str, *arguments: str, logs: Path) -> list[subprocess.Popen]:
    """Both ranks, running Python `code` with `arguments` as sys.argv[1:]; what they say goes to `logs`/<rank>.txt."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    shared |= {"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "pair", "OMP_NUM_THREADS": "1"}
    shared |= {"DS_ACCELERATOR": "cpu", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {PATHS!r}; {code}", *arguments]
    processes = []
    for rank in range(2):
        with (logs / f"{rank}.txt").open("w") as said:
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(
                subprocess.Popen(command, env=os.environ | shared | own, stdout=said, stderr=subprocess.STDOUT)
            )
    return processes


def finish(processes: list[subprocess.Popen], timeout: float = 1200) -> list[int]:
    """The return codes. When one rank fails or time is up, the other is killed."""
    end = time.monotonic() + timeout
    try:
        while any(process.poll() is None for process in processes) and time.monotonic() < end:
            if any(process.poll() for process in processes):
                end = min(end, time.monotonic() + 10)
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
    return [process.wait() for process in processes]


def both(code: str, *arguments: str, logs: Path, timeout: float = 1200) -> None:
    """Start both ranks and wait for them; fails with what they said."""
    codes = finish(start(code, *arguments, logs=logs), timeout)
    said = "\n\n".join((logs / f"{rank}.txt").read_text()[-6000:] for rank in range(2))
    assert codes == [0, 0], f"ranks ended with {codes}\n{said}"
