"""The code of a sweep as it was when its jobs were submitted: they may start hours later, or again."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from dvlm import durable

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("dvlm", "conf", "hydra_plugins")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


def take(sweep: Path) -> Path:
    """A copy of the code below `sweep`, to stand first in PYTHONPATH; one for all submissions of the same code."""
    files = sorted(path for part in PARTS for path in (ROOT / part).rglob("*") if path.suffix in (".py", ".yaml"))
    seen = hashlib.sha256()
    for file in files:
        seen.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    target = sweep / ".code" / seen.hexdigest()[:12]
    if not target.exists():
        with durable.appearing(target, shared=True) as fresh:
            for part in PARTS:
                shutil.copytree(ROOT / part, fresh / part, ignore=LEFT_OUT)
    return target
