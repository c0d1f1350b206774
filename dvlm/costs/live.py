"""How many bytes of tensors are alive, and how many operations were done, while some code runs."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
# Products that torch's own counter does not know.
IN_PLACE = {aten.addmm_: aten.addmm}


class Live(TorchDispatchMode):
    """While it is on: `now` and `peak` bytes of the storages that operations return, and `flops` of their products.

    A storage counts once, whatever views there are, until its last tensor is gone. On the meta device storages have
    their size and no memory, so that a step of any model can be followed on any machine. `flops` counts as
    `torch.utils.flop_counter` does: 2 a multiplication and addition, and matrix products only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.flops = 0
        self._held: dict[int, weakref.ref[Any]] = {}

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were there before."""
        for tensor in tensors:
            self._watch(tensor)

    def restart(self) -> int:
        """Let the peak begin anew from what is alive now; returns the bytes alive."""
        self.peak = self.now
        return self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        count = flop_registry.get(IN_PLACE.get(packet, packet))
        if count is not None:
            self.flops += count(*args, **kwargs, out_val=out)
        for each in tree_iter(out):
            if isinstance(each, Tensor):
                self._watch(each)
        return out

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._held or not size:
            return

        def gone(_: Any) -> None:
            del self._held[key]
            self.now -= size

        self._held[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
