"""Pixels travel as bytes; what the vision tower reads is made of them where it runs: a quarter of the traffic."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dvlm.values import InputError

HALF = 127.5  # Qwen3-VL's mean and deviation of every channel, in bytes
STEPS = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": 0.5, "image_std": 0.5}


def floats(patches: Tensor) -> Tensor:
    """Patches (P, D) uint8 as float32 in [-1, 1]: bit for bit what the processor makes of them."""
    return patches.float().sub_(HALF).div_(HALF)


def check(processor: Any) -> None:
    """Raise InputError for an image processor that normalises in any other way."""
    for name, expected in STEPS.items():
        value = getattr(processor, name)
        channels = value if isinstance(value, list | tuple) else [value]
        if any(channel != expected for channel in channels):
            raise InputError(
                f"model.model: its image processor has {name} {value}, expected {expected}, as every Qwen3-VL has; "
                "mend preprocessor_config.json"
            )
