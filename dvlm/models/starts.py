"""Adapters that start from the base's own weights (PiSSA, OLoRA), with the base left as it is.

Both take a product B0 A0 out of a weight W and train B A in its place. peft writes W - s B0 A0 into the base, so that
adapters off would no longer be the base. Here W stays, and the layer's output is W x + s (B A - B0 A0) x: the same
function and the same gradients, adapters off is the base exactly, and what is saved is a plain LoRA of twice the rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from torch import Tensor, nn
from torch.nn.functional import linear

ADAPTER = "default"
BUFFERS = ("start_A", "start_B")


def start_from_base(model: nn.Module, how: str) -> None:
    """Start every LoRA by `how` (peft's pissa, pissa_niter_<n> or olora); on the meta device by shape only."""
    for layer in _layers(model):
        weight = layer.get_base_layer().weight
        if not weight.is_meta:
            kept = weight.data
            weight.data = kept.clone()  # peft takes the product out of this copy
            layer.olora_init(ADAPTER) if how == "olora" else layer.pissa_init(ADAPTER, how)
            layer.get_base_layer().weight.data = kept
        for name, part in zip(BUFFERS, (layer.lora_A, layer.lora_B), strict=True):
            part[ADAPTER].weight.data = part[ADAPTER].weight.data.contiguous()
            layer.register_buffer(name, part[ADAPTER].weight.detach().clone())
        layer.lora_variant[ADAPTER] = StartSubtracted()


def kept_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The starting products by name: they belong to a checkpoint, since another machine may decompose otherwise."""
    return {name: buffer for name, buffer in model.named_buffers() if name.rpartition(".")[2] in BUFFERS}


def as_plain_lora(model: Any, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Saved adapter weights of `model` as those of a LoRA of twice the rank on the base itself, and its settings."""
    doubled, layers = dict(state), dict(model.named_modules())
    for name in (name for name, module in layers.items() if isinstance(module, LoraLayer)):
        first, second = _doubled(layers[name])
        doubled |= {f"{name}.lora_A.weight": first.contiguous(), f"{name}.lora_B.weight": second.contiguous()}
        rank, alpha = len(first), layers[name].scaling[ADAPTER] * len(first)
    return doubled, {"r": rank, "lora_alpha": alpha, "use_rslora": False}


def is_started(model: nn.Module) -> bool:
    """Whether adapters of `model` start from the base's weights."""
    return any(isinstance(layer.lora_variant.get(ADAPTER), StartSubtracted) for layer in _layers(model))


class StartSubtracted(LoraVariant):
    """s (B A - B0 A0) x as one product of twice the rank, so that it is 0 at the start in every precision."""

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any) -> Tensor:
        """The layer's output with the trained product in place of the starting one."""
        first, second = _doubled(module)
        x = module.lora_dropout[active_adapter](x.to(first.dtype))
        return result + linear(linear(x, first), second) * module.scaling[active_adapter]

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """The weight with the adapter in it."""
        first, second = _doubled(module)
        return orig_weight + (second @ first * module.scaling[active_adapter]).to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        """Put the adapter into the weight."""
        orig_weight.data = StartSubtracted.merge_safe(module, active_adapter, orig_weight.data)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """The weight without the adapter."""
        first, second = _doubled(module)
        return orig_weight - (second @ first * module.scaling[active_adapter]).to(orig_weight.dtype)


def _doubled(layer: Any) -> tuple[Tensor, Tensor]:
    """[A; A0] (2r, in) and [B, -B0] (out, 2r)."""
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    return torch.cat([a, layer.start_A.to(a.dtype)]), torch.cat([b, -layer.start_B.to(b.dtype)], dim=1)


def _layers(model: nn.Module) -> Iterator[Any]:
    return (module for module in model.modules() if isinstance(module, LoraLayer))
