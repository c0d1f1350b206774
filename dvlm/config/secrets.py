"""What a configuration holds is saved with the run, logged, and shown in reports: so no secret goes into one.

Keys and tokens come from the environment, or from the files that their own tools keep, and are never read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dvlm.values import InputError

FORMS = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "a W&B key": r"^(local-)?[0-9a-f]{40}$|\bwandb_v\d+_\w{30,}",
    "a GitHub or GitLab token": r"\b(gh[opsu]_|github_pat_|glpat-)[A-Za-z0-9_-]{20,}",
    "an AWS key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "an API key": r"\b(sk|xox[abps])-[A-Za-z0-9_-]{20,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a password in an address": r"://[^/\s:@]*:[^/\s:@]+@",
    "a secret variable": r"\b[A-Z0-9_]*(API_KEY|TOKEN|SECRET|PASSWORD|ACCESS_KEY)[A-Z0-9_]*=['\"]?[^\s'\"$]{6,}",
    "a reference to a secret variable": r"oc\.env:\s*\w*(?i:KEY|TOKEN|SECRET|PASSWORD)",
}
FOUND = {name: re.compile(form) for name, form in FORMS.items()}


def check(where: str, value: Any) -> None:
    """Raise InputError where a text in `value` (nested mappings and lists) looks like a secret."""
    for key, text in _texts(where, value):
        check_text(key, text)


def check_text(key: str, text: str) -> None:
    """Raise InputError, which does not repeat it, where `text` looks like a secret."""
    for name, form in FOUND.items():
        if form.search(text):
            raise InputError(
                f"{key} holds what looks like {name}, and a configuration is saved and shown; take it out, and give it "
                "by the environment (WANDB_API_KEY, HF_TOKEN), `wandb login` or `hf auth login`"
            )


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(f"{key}.{name}", each)
            if isinstance(each, str):
                yield f"{key}.{name}", f"{name}={each}"  # of a variable, the name tells what it is
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            yield from _texts(f"{key}[{place}]", each)
