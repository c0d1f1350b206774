"""FSDP2: every weight is spread over all ranks, trainable or not, and gathered layer by layer where it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from dvlm.models import towers
from dvlm.scale.collecting import Collecting
from dvlm.scale.whole import collected
from dvlm.values import InputError


class Fsdp(Collecting, ModelParallelStrategy):
    """Lightning's strategy for FSDP2, which shards the module itself and keeps its checkpoints in one file.

    The units are the layers of the towers and the mergers; the rest (embeddings and the head, which may be one tensor)
    stays whole from the forward to the backward pass.
    """

    def setup_environment(self) -> None:
        """One mesh of all ranks."""
        assert self.cluster_environment is not None
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def setup(self, trainer: L.Trainer) -> None:
        """Shard, then build the optimizer on the shards."""
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        if not isinstance(self.model, FSDPModule):
            shard(self.lightning_module, self.device_mesh["data_parallel"])
        self.barrier()
        if trainer.training:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's own state, its tensors whole, on rank 0."""
        state = optimizer.state_dict()
        keep = self.is_global_zero
        return state | {"state": {i: collected(of.items(), keep=keep) for i, of in state["state"].items()}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Spread the whole tensors as the parameters are."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            spread = {
                i: {name: _like(value, parameters[i]) for name, value in of.items()} for i, of in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": spread})


def _like(value: Any, parameter: Any) -> Any:
    """A whole tensor of the shape of `parameter` spread as that is; anything else as it is."""
    if not isinstance(value, torch.Tensor) or value.shape != parameter.shape or not isinstance(parameter, DTensor):
        return value
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def shard(module: Any, mesh: Any) -> None:
    """Apply FSDP2 to a LightningModule that has a `model` and computes by its method `score`.

    Raises InputError where the parameters that train have more than one dtype: their gradients are reduced together.
    """
    dtypes = {parameter.dtype for parameter in module.parameters() if parameter.requires_grad}
    if len(dtypes) > 1:
        raise InputError(
            f"trainer.strategy=fsdp wants one dtype of what trains, got {sorted(map(str, dtypes))}; "
            "leave tuner.lora_dtype null, or use trainer=ddp"
        )
    for unit in towers.units(module.model):
        fully_shard(unit, mesh=mesh)
    fully_shard(module, mesh=mesh)
    register_fsdp_forward_method(module, "score")


@contextmanager
def whole_rest(module: Any) -> Iterator[None]:
    """Within it the model can be called without its LightningModule, as generation does."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()
