"""Weights of a model in 8 or 4 bits, in the form of compressed-tensors: transformers and vLLM read it as it is."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from dvlm.models import towers
from dvlm.models.towers import Tower
from dvlm.values import InputError

BITS = {"int8": 8, "int4": 4}
GROUPS = (128, 64, 32)  # inputs that share a scale at 4 bits: the largest that divides every layer


def require_package() -> None:
    """Raise InputError without compressed-tensors."""
    if find_spec("compressed_tensors") is None:
        raise InputError("quantize needs the package compressed-tensors: pip install 'dvlm[quantize]'")


@torch.no_grad()
def quantize(model: Any, kind: str) -> Any:
    """Round the language model's linear layers to `kind`, in place, to nearest and symmetric; embeddings, head and
    vision stay as they are. int8 has a scale an output, int4 one a group of inputs. Returns what `finish` needs."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
    from compressed_tensors.quantization import apply_quantization_config as apply
    from compressed_tensors.quantization.utils import calculate_qparams

    targets = towers.linears(model, [Tower.LLM])
    layers: list[Any] = [model.get_submodule(name) for name in targets]
    group = _group(layers) if kind == "int4" else None
    args = QuantizationArgs(
        num_bits=BITS[kind], type="int", symmetric=True, strategy="group" if group else "channel", group_size=group
    )
    others = towers.linears(model, [Tower.VIT, Tower.ALIGNER])
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    apply(
        model,
        QuantizationConfig(
            config_groups={"weights": scheme}, ignore=[towers.HEAD, *others], quantization_status="frozen"
        ),
    )
    for layer in layers:
        values = layer.weight.unflatten(1, (-1, group or layer.in_features))
        scale, _ = calculate_qparams(values.amin(-1), values.amax(-1), args)
        layer.weight_scale.data.copy_(scale)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    return compressor


def finish(compressor: Any, directory: Path) -> None:
    """Note in the saved model's configuration how its weights are to be read."""
    compressor.update_config(str(directory))


def _group(layers: list[Any]) -> int:
    for size in GROUPS:
        if all(layer.in_features % size == 0 for layer in layers):
            return size
    raise InputError(f"quantize=int4 needs layers whose inputs {GROUPS[-1]} divides; use quantize=int8")
