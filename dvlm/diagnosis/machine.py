"""Versions, devices, and what of the optional extras is there."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from dvlm.run import PACKAGES

EXTRAS = ("flash-attn", "deepspeed", "compressed-tensors", "vllm")


def facts() -> list[tuple[str, str]]:
    """Names and values for a person."""
    rows = [("python", platform.python_version()), ("system", platform.platform(terse=True))]
    rows += [(name, version(name)) for name in PACKAGES]
    rows += [(f"{name} (optional)", _version(name)) for name in EXTRAS]
    if not torch.cuda.is_available():
        return [*rows, ("device", f"cpu, {torch.get_num_threads()} threads")]
    rows += [("cuda", str(torch.version.cuda)), ("bfloat16", "yes" if torch.cuda.is_bf16_supported() else "no")]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        rows.append((f"gpu {index}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB"))
    return rows


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
