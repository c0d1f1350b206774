"""ZeRO through DeepSpeed: stage 2 spreads gradients and optimizer state over the ranks, stage 3 the weights as well."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch.optim import Optimizer

from dvlm.scale.collecting import Collecting
from dvlm.values import InputError

BUCKET = 50_000_000  # numbers that are reduced or gathered at once
SHARED_MEMORY = "deepspeed_shm_comm"
MOMENTS = ("exp_avg", "exp_avg_sq")


class ZeroPrecision(DeepSpeedPrecision):
    """Weights stay as they are, in bfloat16 or float32; with `autocast` the forward pass computes in bfloat16."""

    def __init__(self, *, device: str, autocast: bool) -> None:
        super().__init__("32-true")
        self.device, self.autocast = device, autocast

    def convert_module(self, module: torch.nn.Module) -> torch.nn.Module:
        """As it is."""
        return module

    def convert_input(self, data: Any) -> Any:
        """As it is."""
        return data

    def forward_context(self) -> AbstractContextManager[Any]:
        """Of passes outside the engine, such as generation."""
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.autocast else nullcontext()


class Zero(Collecting, DeepSpeedStrategy):
    """DeepSpeed with one engine for the whole run, on GPUs or, to try it, on a CPU.

    The engine clips and knows the norm of a step's gradients only after the step. `persistence` is the number of
    values below which a parameter stays whole under stage 3; null: DeepSpeed's choice.
    """

    def __init__(
        self,
        *,
        stage: int,
        device: str,
        autocast: bool,
        max_grad_norm: float | None,
        persistence: int | None = None,
        **options: Any,
    ) -> None:
        zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": BUCKET, "allgather_bucket_size": BUCKET}
        zero["overlap_comm"] = device != "cpu"
        if persistence is not None:
            zero["stage3_param_persistence_threshold"] = persistence
        config: dict[str, Any] = {
            "zero_allow_untested_optimizer": True,
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": zero,
            "gradient_clipping": max_grad_norm or 0.0,
            # None of its modules are communicated in another dtype than they are kept in.
            "torch_autocast": {"enabled": autocast, "dtype": "bfloat16", "lower_precision_safe_modules": []},
        }
        precision = ZeroPrecision(device=device, autocast=autocast)
        super().__init__(config=config, precision_plugin=precision, **options)
        self.on_cpu = device == "cpu"
        self.engine: Any = None
        self._order: list[list[torch.nn.Parameter]] = []

    def setup_environment(self) -> None:
        """As Lightning does, which refuses a CPU although DeepSpeed has an accelerator of that name."""
        if not self.on_cpu:
            super().setup_environment()
            return
        import deepspeed.ops

        # Or it compiles an op for shared memory with g++ at its first use, behind a lock that a killed process keeps.
        deepspeed.ops.__compatible_ops__[SHARED_MEMORY] = False
        assert self.parallel_devices is not None
        self.parallel_devices = [torch.device("cpu", i) for i in range(len(self.parallel_devices))]
        super(DeepSpeedStrategy, self).setup_environment()

    def setup(self, trainer: L.Trainer) -> None:
        """Build the engine once, for validation and training alike; a second one would partition it again."""
        assert self.accelerator is not None
        if self.engine is None:
            super().setup(trainer)
            self.engine, self._kept = self.model, (self.optimizers, self.lr_scheduler_configs)
        else:
            self.accelerator.setup(trainer)
            self.setup_precision_plugin()
            self.model = self.engine
        self.optimizers, self.lr_scheduler_configs = self._kept

    def init_deepspeed(self) -> None:
        """The engine that trains."""
        module: Any = self.lightning_module
        dtypes = {parameter.dtype for parameter in module.parameters() if parameter.requires_grad}
        if len(dtypes) > 1:
            raise InputError(
                f"trainer.strategy=zero wants one dtype of what trains, got {sorted(map(str, dtypes))}; "
                "leave tuner.lora_dtype null, or use trainer=ddp"
            )
        self._initialize_deepspeed_train(module)

    def _init_optimizers(self) -> Any:
        optimizer, scheduler = super()._init_optimizers()
        # The engine puts flat partitions in their place.
        self._order = [list(group["params"]) for group in optimizer.param_groups]
        return optimizer, scheduler

    def teardown(self) -> None:
        """Leaves everything where it is: the engine goes on."""
        assert self.cluster_environment is not None
        assert self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    @property
    def step_norm(self) -> float:
        """The norm of the gradients of the last step, before clipping."""
        return float(self.engine.get_global_grad_norm())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """In the form of torch's own AdamW, whole, on rank 0."""
        from deepspeed.utils import safe_get_full_optimizer_state

        inner = self.engine.optimizer.optimizer
        self._link()
        parameters = [p for group in self._order for p in group]
        states: dict[int, Any] = {}
        for number, parameter in enumerate(parameters):
            moments = {name: safe_get_full_optimizer_state(parameter, name) for name in MOMENTS}
            if self.is_global_zero:
                states[number] = {"step": self._steps(inner)} | {n: m.cpu().clone() for n, m in moments.items()}
        groups, first = [], 0
        for group, members in zip(inner.param_groups, self._order, strict=True):
            numbers = list(range(first, first + len(members)))
            groups.append({k: v for k, v in group.items() if k != "params"} | {"params": numbers})
            first += len(members)
        return {"state": states, "param_groups": groups}

    def _link(self) -> None:
        """Stage 2 ties parameters to their parts of the moments at its first step, but those of one group only."""
        from deepspeed.utils.mixed_precision_linkage import lazy_init_hp_params_optimizer_state

        zero = self.engine.optimizer
        if hasattr(zero, "single_partition_of_fp32_groups"):
            for members, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
                lazy_init_hp_params_optimizer_state(members, flat, zero.optimizer.state)
            zero._hp_optimizer_states_linked = True

    @staticmethod
    def _steps(inner: Optimizer) -> torch.Tensor:
        return next(torch.as_tensor(float(state["step"])) for state in inner.state.values() if "step" in state)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each rank its part of the whole tensors."""
        from deepspeed.utils import safe_set_full_optimizer_state

        (state,) = checkpoint["optimizer_states"]
        zero = self.engine.optimizer
        inner = zero.optimizer
        for group, stored in zip(inner.param_groups, state["param_groups"], strict=True):
            group.update({key: value for key, value in stored.items() if key != "params"})
        step = next(iter(state["state"].values()))["step"]
        if hasattr(zero, "fp32_partitioned_groups_flat"):
            flats = zero.fp32_partitioned_groups_flat
        else:
            flats = zero.single_partition_of_fp32_groups
        for flat in flats:
            inner.state[flat] = {"step": step.clone()} | {name: torch.zeros_like(flat) for name in MOMENTS}
        self._link()
        for number, parameter in enumerate(p for group in self._order for p in group):
            for name in MOMENTS:
                safe_set_full_optimizer_state(parameter, state["state"][number][name].to(parameter.device), name)
