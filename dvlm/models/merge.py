"""A checkpoint becomes a plain transformers model: adapters merged, the result read back and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from dvlm import durable
from dvlm.config import ExportConfig, ModelConfig
from dvlm.models import adapters, load, quantize
from dvlm.models.adapters import CONFIG
from dvlm.models.pixels import floats
from dvlm.values import InputError, Sample

TOLERANCE = 1e-4  # largest difference of logits in float32
KL_BOUND = 0.05  # largest mean divergence in bfloat16, in nats a token: rounding stays far below
PROBE_SIDE = 64


@dataclass(frozen=True)
class Merged:
    """How close what was written is to the adapted model: largest `difference` of logits, share of equal likeliest
    words (`agreement`), mean divergence KL(adapted || written) in nats (`kl`); `stored` is the dtype of its weights."""

    output: Path
    stored: str
    difference: float
    agreement: float
    kl: float

    def __str__(self) -> str:
        same = f"{self.agreement:.1%} equal likeliest words, mean KL {self.kl:.2g}"
        return f"logits within {self.difference:.2g} of the adapted model, {same}"


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


Finish = Callable[[Path, Merged], None]


def merge(
    checkpoint: Path, output: Path, config: ExportConfig, *, base: str | None, probe: Any, finish: Finish
) -> Merged:
    """Merge `checkpoint` in float32, write it as `config` asks, read it back and compare logits on `probe`.

    `finish` adds to the directory, which then appears by rename; an older one is there until then. Raises InputError
    where `output` exists (unless `overwrite`), and where the written model is not the adapted one.
    """
    if output.exists() and not config.overwrite:
        raise InputError(f"output: {output} exists; choose another directory, or set overwrite=true")
    if config.quantize:
        quantize.require_package()
    processor = load.load_processor(str(checkpoint))
    source = base or str(checkpoint)
    stored = config.torch_dtype or str(load.load_config(source).dtype or "float32").removeprefix("torch.")
    model: Any = _load(source)
    if base:
        model = adapters.attached(model, checkpoint).eval()
    wanted = _logits(model, probe)
    model = adapters.merged(model) if base else model
    durable.clean(output.parent)
    with durable.appearing(output) as fresh:
        fresh.mkdir()
        _write(model.to(getattr(torch, stored)), processor, checkpoint, fresh, config)
        del model
        merged = _compare(wanted, _logits(_load(str(fresh)), probe), output, stored)
        _check(merged, config)
        finish(fresh, merged)
        for file in fresh.iterdir():
            file.chmod(0o644)
    return merged


def _check(merged: Merged, config: ExportConfig) -> None:
    """Rounding to bfloat16 has a bound of its own; what 8 or 4 bits cost is reported, not judged."""
    exact = merged.stored == "float32"
    if config.quantize is None and (merged.difference > TOLERANCE if exact else not merged.kl <= KL_BOUND):
        bound = f"{TOLERANCE} of logits" if exact else f"{KL_BOUND} of mean KL"
        raise InputError(f"the merged model is not the adapted one: {merged}; allowed is {bound}. Nothing was written")


def _load(model: str) -> Qwen3VLForConditionalGeneration:
    return load.load_model(ModelConfig(model=model, torch_dtype="float32", max_model_len=1), packing=False)


def ramp(processor: Any) -> Any:
    """A picture and a question for want of a sample: a ramp in each direction, so that every patch differs."""
    side = np.linspace(0, 255, PROBE_SIDE).astype(np.uint8)
    image = np.stack(
        [np.tile(side, (PROBE_SIDE, 1)), np.tile(side[:, None], PROBE_SIDE), np.full([PROBE_SIDE] * 2, 128)], -1
    )
    content = [{"type": "image", "image": ""}, {"type": "text", "text": "请描述图片中的所有物体"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return processor(text=[text], images=[image.astype(np.uint8)], return_tensors="pt")


def inputs(sample: Sample) -> dict[str, Tensor]:
    """An encoded sample as the model takes it."""
    given = {"input_ids": sample.input_ids[None], "mm_token_type_ids": sample.mm_token_type_ids[None]}
    if sample.pixel_values is None or sample.image_grid_thw is None:
        return given
    return given | {"pixel_values": floats(sample.pixel_values), "image_grid_thw": sample.image_grid_thw}


@torch.no_grad()
def _logits(model: Any, probe: Any) -> Tensor:
    return model(**probe, use_cache=False).logits[0].float()


def _write(model: Any, processor: Any, checkpoint: Path, directory: Path, config: ExportConfig) -> None:
    compressor = quantize.quantize(model, config.quantize) if config.quantize else None
    model.save_pretrained(directory, max_shard_size=config.max_shard_size)
    if compressor is not None:
        quantize.finish(compressor, directory)
    processor.save_pretrained(directory)
    if config.also_legacy_processor_files:
        processor.image_processor.save_pretrained(directory)
        processor.video_processor.save_pretrained(directory)
    for name in ("prompts.json", "canvas.json", "generation_config.json"):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, directory / name)


def _compare(wanted: Tensor, found: Tensor, output: Path, stored: str) -> Merged:
    p, q = wanted.log_softmax(-1), found.log_softmax(-1)
    return Merged(
        output,
        stored,
        difference=float((wanted - found).abs().max()),
        agreement=float((wanted.argmax(-1) == found.argmax(-1)).float().mean()),
        kl=float((p.exp() * (p - q)).sum(-1).mean()),
    )
