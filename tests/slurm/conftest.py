"""The SLURM that these tests run on: the one that SLURM_CONF names."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def missing() -> str | None:
    """Why there is no SLURM to test on; None where there is one."""
    if shutil.which("sbatch") is None:
        return "SLURM is not installed"
    if "SLURM_CONF" not in os.environ:
        return 'no SLURM of the tests runs: tests/slurm/one_node.sh start; eval "$(tests/slurm/one_node.sh env)"'
    try:
        done = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "SLURM does not answer"
    return None if done.returncode == 0 else done.stderr.strip()


@pytest.fixture(autouse=True, scope="session")
def _slurm() -> None:
    why = missing()
    if why:
        pytest.skip(why)
