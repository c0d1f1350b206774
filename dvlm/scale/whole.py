"""Parameters that are spread over ranks (FSDP2's DTensors, ZeRO-3's partitions), made whole again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


def shape(parameter: Tensor) -> torch.Size:
    """The shape of the whole parameter."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def whole(tensor: Any) -> Any:
    """The whole of a tensor that may be spread; whatever is no tensor stays as it is. Every rank must ask for it."""
    if isinstance(tensor, DTensor):
        return tensor.full_tensor().detach()
    if hasattr(tensor, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([tensor]):
            return tensor.data.clone()
    return tensor.detach() if isinstance(tensor, Tensor) else tensor


def gradient(parameter: Any) -> Tensor | None:
    """The whole gradient of a parameter, after the last backward pass of a step; every rank must ask for it."""
    if hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping"):
        from deepspeed.utils import safe_get_full_grad

        return safe_get_full_grad(parameter)
    return None if parameter.grad is None else whole(parameter.grad)


def collected(named: Iterable[tuple[str, Any]], *, keep: bool) -> dict[str, Any]:
    """The whole tensors on the CPU of the ranks that `keep` them, {} on the others; one at a time on the device."""
    kept = {}
    for name, tensor in named:
        full = whole(tensor)
        if keep:
            kept[name] = full.cpu() if isinstance(full, Tensor) else full
    return kept


def export_state(model: Any, *, keep: bool) -> dict[str, Any] | None:
    """What `save_pretrained` writes, where it could not read it off the model itself; None where it can.

    Of an adapter model the adapters and whatever else trains, else all parameters.
    """
    if not any(isinstance(p, DTensor) or hasattr(p, "ds_id") for p in model.parameters()):
        return None
    adapted = set(getattr(model, "peft_config", ()))
    state: dict[str, Any] = dict(model.named_parameters())
    if adapted:
        training = {name for name, p in state.items() if p.requires_grad}
        everything = state | dict(model.named_buffers())
        state = {n: t for n, t in everything.items() if n in training or adapted & set(n.split("."))}
    return collected(state.items(), keep=keep)


def total_norm(gradients: list[Tensor]) -> Tensor:
    """The norm of all gradients together; of spread ones the whole."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
