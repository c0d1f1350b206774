"""What guards say of a step points to a section of the troubleshooting page that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dvlm.callbacks.guards import PAGE, Guards
from dvlm.config.guards import GuardsConfig

ROOT = Path(__file__).resolve().parents[3]
USUAL = {"train/loss": 1.0, "train/kl_loss": 0.1, "train/grad_norm": 1.0}


@pytest.fixture
def guards() -> Guards:
    guards = Guards(GuardsConfig(window=4), recorder=None)
    for _ in range(4):
        guards._remember(USUAL)
    return guards


@pytest.mark.parametrize(
    ("values", "section"),
    [
        ({"train/loss": float("nan")}, "nan-loss"),
        ({"train/grad_norm": float("inf")}, "nan-loss"),
        ({"train/loss": 5.1}, "loss-spikes"),
        ({"train/kl_loss": 1.1}, "kl-spike"),
        ({"train/kl_loss": 0.9}, None),
        ({"train/loss": 4.9}, None),
    ],
)
def test_a_finding_has_a_section(guards, values, section):
    found = guards._not_finite(USUAL | values) or guards._spike(USUAL | values)
    assert (found and found.section) == section
    headings = re.findall(r"^## (.+)$", (ROOT / PAGE).read_text(encoding="utf-8"), re.MULTILINE)
    assert section is None or section in [heading.lower().replace(" ", "-") for heading in headings]
