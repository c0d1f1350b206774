"""A checkpoint becomes a plain transformers model: adapters merged, the result read back and compared."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from dvlm.config import ModelConfig
from dvlm.models import adapters, load
from dvlm.models.adapters import CONFIG
from dvlm.values import InputError

TOLERANCE = 1e-4  # largest difference of logits in float32
PROBE_SIDE = 64


@dataclass(frozen=True)
class Merged:
    """What was written: largest difference of logits from the adapted model, and share of equal likeliest words."""

    output: Path
    difference: float
    agreement: float


def base_of(checkpoint: Path, override: str | None) -> str | None:
    """The base model of an adapter checkpoint; None where the checkpoint is a whole model."""
    file = checkpoint / CONFIG
    if not file.is_file():
        return None
    base = override or json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise InputError(
            f"the base model {base} of {checkpoint} does not exist; give its place with base_model=<directory>"
        )
    load.check_base(checkpoint, base, "base_model")
    return base


def merge(checkpoint: Path, output: Path, *, base: str | None, dtype: str | None, overwrite: bool) -> Merged:
    """Merge `checkpoint` in float32, write it in `dtype` (None: the base's own), read it back and compare logits.

    The directory appears by rename. Raises InputError where `output` exists (unless `overwrite`), and where the merged
    model is not the adapted one.
    """
    if output.exists() and not overwrite:
        raise InputError(f"output: {output} exists; choose another directory, or set overwrite=true")
    processor = load.load_processor(str(checkpoint))
    source = base or str(checkpoint)
    stored = dtype or str(load.load_config(source).dtype or "float32").removeprefix("torch.")
    model: Any = _load(source)
    if base:
        model = PeftModel.from_pretrained(model, str(checkpoint)).eval()
    probe = _probe(processor)
    wanted = _logits(model, probe)
    model = adapters.merged(model) if base else model
    fresh = output.with_name(f".{output.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    _write(model.to(getattr(torch, stored)), processor, checkpoint, fresh)
    del model
    merged = _compare(wanted, _logits(_load(str(fresh)), probe), output)
    if stored == "float32" and merged.difference > TOLERANCE:
        raise InputError(f"the merged model differs from the adapted one by {merged.difference:.2g}; it is in {fresh}")
    if output.exists():
        shutil.rmtree(output)
    os.replace(fresh, output)
    return merged


def _load(model: str) -> Qwen3VLForConditionalGeneration:
    return load.load_model(ModelConfig(model=model, torch_dtype="float32", max_model_len=1), packing=False)


def _probe(processor: Any) -> Any:
    """A picture and a question: a ramp in each direction, so that every patch differs."""
    ramp = np.linspace(0, 255, PROBE_SIDE).astype(np.uint8)
    image = np.stack(
        [np.tile(ramp, (PROBE_SIDE, 1)), np.tile(ramp[:, None], PROBE_SIDE), np.full([PROBE_SIDE] * 2, 128)], -1
    )
    content = [{"type": "image", "image": ""}, {"type": "text", "text": "请描述图片中的所有物体"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return processor(text=[text], images=[image.astype(np.uint8)], return_tensors="pt")


@torch.no_grad()
def _logits(model: Any, probe: Any) -> Tensor:
    return model(**probe, use_cache=False).logits[0].float()


def _write(model: Any, processor: Any, checkpoint: Path, directory: Path) -> None:
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    # Tools that predate the nested processor file look for these.
    processor.image_processor.save_pretrained(directory)
    for name in ("prompts.json", "canvas.json", "generation_config.json"):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, directory / name)
    for file in directory.iterdir():
        file.chmod(0o644)


def _compare(wanted: Tensor, found: Tensor, output: Path) -> Merged:
    difference = float((wanted - found).abs().max())
    agreement = float((wanted.argmax(-1) == found.argmax(-1)).float().mean())
    return Merged(output, difference, agreement)
