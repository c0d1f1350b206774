"""From a checkpoint to an engine that answers as it was trained to."""

from __future__ import annotations

from typing import Any

import torch

from dvlm.config import DataConfig, EngineConfig, ModelConfig
from dvlm.data.encode import Encoder
from dvlm.data.messages import Prompts
from dvlm.inference.backend import Backend, Transformers
from dvlm.inference.engine import Engine
from dvlm.inference.source import Source, resolve
from dvlm.models import adapters, load


def load_engine(
    checkpoint: str,
    base_model: str | None,
    config: EngineConfig,
    *,
    asked: DataConfig | None = None,
    packing: bool = False,
) -> Engine:
    """The engine of a checkpoint, with its own prompts, norm, canvas and pixel limits.

    A released model has no prompts: it is asked as `asked` says (else by the defaults), within its pixel limits.
    `packing` makes the attention fit for packs too.
    Raises InputError naming what is missing: the processor, the base, a package, the hardware.
    """
    source = resolve(checkpoint, base_model)
    data: DataConfig | type[DataConfig] = asked or DataConfig  # the class has the defaults
    prompts = source.prompts
    limits = (None, None) if prompts else (data.min_pixels, data.max_pixels)
    processor = load.load_processor(str(source.directory), *limits)
    if config.backend == "vllm":
        from dvlm.inference.vllm_backend import VLLM

        backend: Backend = VLLM(source, config)
    else:
        backend = Transformers(load_model(source, config, packing=packing), processor.tokenizer)
    return Engine(
        backend, Encoder(processor, load.load_config(source.model)), prompts or Prompts.of(data), source.canvas, config
    )


def load_model(source: Source, config: EngineConfig, *, packing: bool) -> Any:
    """The model in evaluation mode on the first GPU there is, an adapter on its base."""
    own = str(load.load_config(source.model).dtype or "float32").removeprefix("torch.")
    wanted = ModelConfig(
        model=source.model, torch_dtype=config.torch_dtype or own, attn_impl=config.attn_impl, max_model_len=1
    )
    model: Any = load.load_model(wanted, packing=packing)
    if source.base:
        model = adapters.attached(model, source.directory)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
