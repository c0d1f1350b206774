"""A copy of conf/ that a test may spoil."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvlm.config import keys


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Write a file into a copy of conf/, which then stands for conf/: `written("rlhf/x.yaml", "beat: 1")`."""
    tree = tmp_path / "conf"
    shutil.copytree(keys.CONF, tree)
    monkeypatch.setattr(keys, "CONF", tree)

    def write(name: str, text: str) -> Path:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")
        return tree / name

    return write
