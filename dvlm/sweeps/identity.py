"""What makes two jobs the same job, and what the directory of a job is called."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Where a job runs and what it continues do not make it another job.
LEFT_OUT = ("cache_dir", "resume_from", "sweep")
LONGEST_SLUG = 80


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"rlhf.beta": 0.1, ...}` of nested mappings; lists stay values."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        found |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return found


def essence(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flat configuration without what does not make another job of it."""
    return flat({name: value for name, value in config.items() if name not in LEFT_OUT})


def digest(config: Mapping[str, Any]) -> str:
    """Eight hex digits that stand for the resolved configuration."""
    text = json.dumps(essence(config), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """`key: ours, theirs` for each key whose value is not the same."""
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return [f"{key}: {ours.get(key)}, {theirs.get(key)}" for key in keys]


def slug(overrides: Iterable[str]) -> str:
    """`beta-0.1_learning_rate-1e-4` of overrides: the last part of each key with its value, safe in a path.

    Of a sampled number the first six digits.
    """
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    words = (f"{key.rpartition('.')[2]}-{_short(value)}" for key, _, value in pairs)
    clean = (re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-_.") for word in words)
    return "_".join(clean)[:LONGEST_SLUG].rstrip("-_.") or "run"


def _short(value: str) -> str:
    return f"{float(value):.6g}" if re.fullmatch(r"-?[\d.]{8,}(e-?\d+)?", value) else value


def directory(sweep: Path, config: Mapping[str, Any], overrides: Iterable[str]) -> Path:
    """The run directory of a job in that of its sweep. The digest decides: a slug is for people, and may change."""
    short = digest(config)
    known = sorted(path for path in sweep.glob(f"*-{short}") if path.is_dir())
    return known[0] if known else sweep / f"{slug(overrides)}-{short}"
