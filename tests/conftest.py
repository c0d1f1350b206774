"""What tests share: the tiny model and the demo set, built once for all workers under a content hash."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import CACHE


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache() -> Path:
    """Where the tiny model and demo sets are kept between runs."""
    return CACHE


@pytest.fixture(scope="session")
def tiny(cache: Path) -> Path:
    """A tiny Qwen3-VL checkpoint directory."""
    from dvlm.models.tiny import prepare

    return prepare(cache)


@pytest.fixture(scope="session")
def demo_files(cache: Path) -> tuple[Path, Path]:
    """train.jsonl (24 records) and val.jsonl (6 records) of a small demo set."""
    from dvlm.data.demo import prepare

    return prepare(cache, train=24, val=6)
