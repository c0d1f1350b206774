"""The model without its numbers: built, tuned and run on torch's meta device by the code that trains the real one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map
from transformers import Qwen3VLForConditionalGeneration

from dvlm.config import ModelConfig
from dvlm.costs.live import Live
from dvlm.models import attention, load, published

# What autocast computes in 16 bits, and what in 32: its lists, as far as Qwen3-VL and peft use them.
LOWER = {torch.nn.functional.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, torch.einsum}
UPPER = {torch.nn.functional.layer_norm, torch.nn.functional.softmax, torch.norm}


def model_config(model: str) -> Any:
    """The configuration of a released model by its name, or of a directory."""
    return published.config(model) or load.load_config(model)


def skeleton(config: ModelConfig, *, packing: bool) -> Any:
    """The model of `config` on the meta device, frozen, in `torch_dtype`: what `load_model` gives, without weights."""
    attention.register()
    kind = "sdpa" if config.attn_impl == "flash_attention_2" else config.attn_impl
    text = attention.NAME if packing and kind == "sdpa" else kind
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration._from_config(
            model_config(config.model),
            dtype=getattr(torch, config.torch_dtype),
            attn_implementation={"": kind, "text_config": text, "vision_config": kind},
        )
    model.tie_weights()
    return model.requires_grad_(False).eval()


class Flash(torch.autograd.Function):
    """The shapes of an attention kernel that keeps no scores: output and log-sum-exp go to the backward pass.

    FLOPs of l queries on l keys in h heads of width d: 4 h d l^2 forward (scores, values) and 2.5 times that backward
    (the scores once more, and two gradients of each product), whether or not a mask lets half of them be skipped
    (Dao et al. 2022, section 3; the count of `torch.utils.flop_counter`).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, live: Live) -> Tensor:
        """(B, h, l, d) of `query`, laid out as (B, l, h, d) as the kernels do."""
        batch, heads, length, width = query.shape
        out = query.new_empty(batch, length, heads, width).transpose(1, 2)
        mass = query.new_empty(batch, heads, length, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, mass)
        ctx.live, ctx.flops = live, 4 * batch * heads * width * length * key.shape[2]
        live.flops += ctx.flops
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The three gradients."""
        ctx.live.flops += ctx.flops * 5 // 2
        return *(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3]), None


class Kernels(TorchFunctionMode):
    """What depends on a device, for the meta device: attention without scores, and autocast to `low` (None: none)."""

    def __init__(self, live: Live, low: torch.dtype | None) -> None:
        super().__init__()
        self.live, self.low = live, low

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            return Flash.apply(*args[:3], self.live)
        if self.low is not None and func in LOWER:
            args, kwargs = self._cast((args, kwargs), self.low)
        elif self.low is not None and func in UPPER:
            args, kwargs = self._cast((args, kwargs), torch.float32)
        return func(*args, **kwargs)

    def _cast(self, values: Any, dtype: torch.dtype) -> Any:
        def one(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        return tree_map(one, values)
