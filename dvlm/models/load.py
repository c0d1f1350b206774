"""Loading a base model and its processor, and knowing one base from another. Safetensors only, no remote code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoProcessor, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from dvlm.config import ModelConfig
from dvlm.models import attention, hub, pixels, tiny
from dvlm.values import InputError

TINY = "tiny"
BASE = "base.json"  # beside the weights of a checkpoint: which base model they belong to
# Of a weight file a fingerprint reads a block in every stride: whatever was trained, each matrix of a released model is
# larger than a stride. Files below `WHOLE` bytes are read as a whole.
WHOLE, STRIDE, BLOCK = 64 << 20, 4 << 20, 64 << 10


def resolve(config: ModelConfig, cache: Path, key: str = "model.model") -> ModelConfig:
    """The same configuration with `tiny` built on disk, and an existing directory made absolute; hub ids stay.

    Raises InputError, naming the knob `key`, for a path that is no model directory.
    """
    if config.model == TINY:
        return replace(config, model=str(tiny.prepare(cache.resolve())))
    path = Path(config.model)
    if path.exists():
        if not (path / "config.json").is_file():
            raise InputError(f"{key}: {config.model} is no model directory: it has no config.json")
        return replace(config, model=str(path.resolve()))
    if path.is_absolute() or config.model.startswith((".", "~")):
        raise InputError(f"{key}: {config.model} does not exist; give a model directory or a hub id")
    hub.settle()
    return config


def load_config(model: str) -> Any:
    """The configuration of a Qwen3-VL; raises InputError for anything else."""
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"model.model: {model} cannot be loaded: {_first_line(error)}") from error
    if config.model_type != "qwen3_vl":
        raise InputError(f"model.model: {model} is a {config.model_type}, expected a qwen3_vl")
    return config


def load_processor(model: str, min_pixels: int | None = None, max_pixels: int | None = None) -> Any:
    """The processor of a model directory or hub id, with other pixel limits where they are given."""
    try:
        processor = AutoProcessor.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no processor in {model}; copy the files of its base there. {_first_line(error)}") from error
    if not isinstance(processor, Qwen3VLProcessor):
        raise InputError(f"no processor in {model}: expected a Qwen3VLProcessor, got {type(processor).__name__}")
    pixels.check(processor.image_processor)
    size = dict(processor.image_processor.size)
    size = {key: value for key, value in size.items() if value is not None}
    size |= {"shortest_edge": min_pixels} if min_pixels else {}
    size |= {"longest_edge": max_pixels} if max_pixels else {}
    if size["shortest_edge"] > size["longest_edge"]:
        raise InputError(f"data.min_pixels {size['shortest_edge']} is above data.max_pixels {size['longest_edge']}")
    processor.image_processor.size = size
    return processor


def load_model(config: ModelConfig, *, packing: bool) -> Qwen3VLForConditionalGeneration:
    """The base model in `torch_dtype`, frozen, in evaluation mode.

    With `packing`, sdpa is replaced by `packed_sdpa` in the language model. Raises InputError for weights that are not
    all there, and where flash attention is asked for without a GPU or without its package.
    """
    if config.attn_impl == "flash_attention_2":
        _require_flash_attention()
    attention.register()
    text = attention.NAME if packing and config.attn_impl == "sdpa" else config.attn_impl
    load_config(config.model)
    try:
        loaded: Any = Qwen3VLForConditionalGeneration.from_pretrained(
            config.model,
            dtype=getattr(torch, config.torch_dtype),
            attn_implementation={"": config.attn_impl, "text_config": text, "vision_config": config.attn_impl},
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, SafetensorError) as error:
        raise InputError(f"model.model: {config.model} cannot be loaded: {_first_line(error)}") from error
    model, report = loaded
    lacking = sorted(report["missing_keys"])
    if lacking:
        raise InputError(f"model.model: {config.model} lacks {len(lacking)} weights, such as {lacking[0]}; get it anew")
    return model.requires_grad_(False).eval()


def _require_flash_attention() -> None:
    from transformers.utils import is_flash_attn_2_available

    if not torch.cuda.is_available() or not is_flash_attn_2_available():
        have = "a GPU but no flash-attn" if torch.cuda.is_available() else "no GPU"
        raise InputError(
            f"model.attn_impl is flash_attention_2, but there is {have}; "
            "install dvlm[gpu] on a GPU machine, or use model.attn_impl=sdpa"
        )


def fingerprint(model: str) -> str | None:
    """12 hex digits that tell one model directory from another: its configuration and samples of its weight files.

    None for what is no model directory, such as a hub id.
    """
    root = Path(model)
    if not (root / "config.json").is_file():
        return None
    digest = hashlib.sha256((root / "config.json").read_bytes())
    for file in sorted(root.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        step, length = (STRIDE, BLOCK) if size > WHOLE else (max(size, 1), size)
        with file.open("rb") as handle:
            for start in range(0, size, step):
                handle.seek(start)
                digest.update(handle.read(length))
    return digest.hexdigest()[:12]


def write_base(directory: Path, model: str) -> None:
    """Note beside a checkpoint's weights which base model they were trained on."""
    facts = {"model": model, "fingerprint": fingerprint(model)}
    (directory / BASE).write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")


def check_base(checkpoint: Path, model: str, key: str) -> None:
    """Raise InputError, naming the knob `key`, where the weights of `checkpoint` belong to another base model."""
    if not (checkpoint / BASE).is_file():
        return
    facts = json.loads((checkpoint / BASE).read_text(encoding="utf-8"))
    theirs, ours = facts["fingerprint"], fingerprint(model)
    # Of a hub id only the name is known; whether it is what a directory holds, nobody can tell.
    same = theirs == ours if theirs and ours else bool(theirs or ours) or facts["model"] == model
    if not same:
        raise InputError(
            f"{key}: {checkpoint} was trained on {facts['model']} (fingerprint {theirs}), "
            f"not on {model} (fingerprint {ours}); take the base that it was trained on"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
