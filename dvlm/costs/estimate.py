"""All figures of a run from its configuration: the model and the tuner on the meta device, one step, and arithmetic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from peft.utils import get_peft_model_state_dict

from dvlm.config import TrainConfig
from dvlm.costs import flops, meta
from dvlm.costs.flops import Overhead
from dvlm.costs.memory import STRATEGIES, WORD, Holdings
from dvlm.costs.step import NOTHING, Step, simulate, untouched
from dvlm.costs.work import Load, Work
from dvlm.models import forward, towers, tuning
from dvlm.models.prefix import Reach
from dvlm.models.tuning import Tuned
from dvlm.values import Batch

# What tells the parameters of an adapter from those of the model, in their names.
ADAPTERS = ("lora_", "boft_", "fourierft_", "vera_", ".modules_to_save.")
SHORT = 4  # the second length at which a step is followed is the row's, divided by this


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Parameters in numbers, memory in bytes, work in FLOPs, time in seconds; what is keyed by GPUs or tokens has them
    as keys.

    `activations`: by row length, (kept, recomputed): without and with gradient checkpointing. `logits`: float32 logits
    of a whole row that never exist. `flops`: of an optimizer step, by part. `per_gpu`: by strategy.
    """

    model: str
    load: Load
    parameters: dict[str, int]
    trainable: dict[str, int]
    adapted: int
    on_disk: int
    weights: int
    gradients: int
    optimizer: int
    activations: dict[int, tuple[int, int]]
    logits: int
    checkpointing: bool
    per_gpu: dict[str, dict[int, int]]
    flops: dict[str, int]
    overhead: Overhead
    step_seconds: dict[int, float]
    hours: dict[int, float]

    def json(self) -> str:
        """The figures for a program."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"


def build(config: TrainConfig, load: Load, *, gpus: Sequence[int], peak: float, mfu: float) -> Estimate:
    """The figures of a run of `config` on GPUs of `peak` FLOP/s that reach `mfu` of it."""
    tuned, teacher = parts(config)
    runs = Runs(config, tuned, teacher, load)
    kept, recomputed = runs.at(load.pack.tokens, False), runs.at(load.pack.tokens, True)
    used = recomputed if config.trainer.gradient_checkpointing else kept
    members = towers.parameters(tuned.model)
    trainable = {str(t): sum(p.numel() for _, p in rows if p.requires_grad) for t, rows in members.items()}
    holdings = Holdings(
        weights=_bytes(tuned.model),
        teacher=_bytes(teacher) if teacher is not None and teacher is not tuned.model else 0,
        trainable=sum(trainable.values()),
        largest=_largest(tuned.model),
        activations=used.activations,
    )
    share = load.tokens / load.steps / load.pack.tokens
    per_step = {name: round(value * share) for name, value in _by_part(kept).items()}
    seconds = {k: flops.duration(sum(per_step.values()), gpus=k, peak=peak, mfu=mfu) for k in gpus}
    lengths = getattr(config, "lengths", [load.pack.tokens])
    return Estimate(
        model=config.model.model,
        load=load,
        parameters={str(t): sum(p.numel() for n, p in rows if _of_base(n)) for t, rows in members.items()},
        trainable=trainable,
        adapted=len(tuned.targets),
        on_disk=on_disk(tuned),
        weights=holdings.weights,
        gradients=holdings.gradients,
        optimizer=holdings.optimizer,
        activations={n: (runs.activations(n, False), runs.activations(n, True)) for n in lengths},
        logits=WORD * load.pack.tokens * len(_head(tuned.model)) * (1 if teacher is None else 2),
        checkpointing=config.trainer.gradient_checkpointing,
        per_gpu={s: {k: holdings.per_gpu(s, k) for k in gpus} for s in STRATEGIES},
        flops=per_step,
        overhead=_overhead(runs, kept),
        step_seconds=seconds,
        hours={k: each * load.steps / 3600 for k, each in seconds.items()},
    )


def parts(config: TrainConfig) -> tuple[Tuned, Any]:
    """Student and teacher on the meta device; the teacher is the student itself where its adapters can be switched off,
    None without one."""
    tuned = tuning.tune(meta.skeleton(config.model, packing=config.data.packing), config.tuner, seed=config.seed)
    tuned.model.train()
    if not config.rlhf.uses_teacher:
        return tuned, None
    path = config.rlhf.teacher_model
    if path == "base" and tuned.keeps_base:
        return tuned, tuned.model
    model = replace(config.model, model=config.model.model if path == "base" else path)
    return tuned, meta.skeleton(model, packing=config.data.packing)


def foretold(config: TrainConfig, batch: Batch, *, checkpointing: bool | None = None, cuda: bool = True) -> Step:
    """The step of a batch of the run; `checkpointing` None: as the configuration has it."""
    tuned, teacher = parts(config)
    return simulate(
        tuned.model,
        Work.of(batch),
        low=precision(config),
        checkpointing=config.trainer.gradient_checkpointing if checkpointing is None else checkpointing,
        teacher=teacher,
        reach=reach_of(config, tuned),
        cuda=cuda,
    )


def flops_per_token(config: TrainConfig, batch: Batch) -> float:
    """FLOPs of a token of a batch like this, forward and backward, the teacher's included; nothing counts twice."""
    return foretold(config, batch, checkpointing=False).flops / batch.input_ids.numel()


def reach_of(config: TrainConfig, tuned: Tuned) -> Reach:
    """What a teacher takes over from the student: nothing, unless it is the student's base."""
    return Reach.of(tuned.model) if config.rlhf.teacher_model == "base" else NOTHING


def precision(config: TrainConfig) -> torch.dtype | None:
    """The dtype of autocast; None in float32."""
    return None if config.model.torch_dtype == "float32" else torch.bfloat16


class Runs:
    """Simulated steps, each made once."""

    def __init__(self, config: TrainConfig, tuned: Tuned, teacher: Any, load: Load) -> None:
        self.tuned, self.teacher, self.load = tuned, teacher, load
        self.low, self.reach = precision(config), reach_of(config, tuned)
        self._made: dict[tuple[int, bool], Step] = {}

    def at(self, tokens: int, checkpointing: bool) -> Step:
        """The step of a row of so many tokens."""
        key = tokens, checkpointing
        if key not in self._made:
            work = self.load.pack if tokens == self.load.pack.tokens else self.load.pack.of_length(tokens)
            self._made[key] = simulate(
                self.tuned.model,
                work,
                low=self.low,
                checkpointing=checkpointing,
                teacher=self.teacher,
                reach=self.reach,
            )
        return self._made[key]

    def activations(self, tokens: int, checkpointing: bool) -> int:
        """Bytes by a straight line through two lengths: without a matrix of scores all of it grows with the row."""
        long = self.load.pack.tokens
        short = max(1, long // SHORT)
        if tokens in (long, short) or long == short:
            return self.at(tokens if tokens == short else long, checkpointing).activations
        low, high = (self.at(n, checkpointing).activations for n in (short, long))
        return round(low + (high - low) * (tokens - short) / (long - short))


def on_disk(tuned: Tuned) -> int:
    """Bytes of the weights of a checkpoint: the adapter, or the whole model."""
    if not tuned.is_adapter:
        return _bytes(tuned.model)
    state = get_peft_model_state_dict(tuned.model, save_embedding_layers=False)
    return sum(tensor.nbytes for tensor in state.values())


def _by_part(step: Step) -> dict[str, int]:
    parts = {"vision": step.vision, "llm": step.language, "head": step.head, "backward": step.backward}
    return parts | {"teacher": sum(step.teacher)}


def _overhead(runs: Runs, step: Step) -> Overhead:
    """Without a teacher in the run, that of the base is meant, which costs what the student's own forward pass does."""
    own = step.vision, step.language, 2 * runs.load.pack.supervised * _head(runs.tuned.model).numel()
    left = 1 - untouched(runs.tuned.model, runs.reach)
    shared = step.teacher
    if runs.teacher is None:
        shared = 0 if runs.reach.aligner else own[0], round(own[1] * left), own[2]
    whole = own[0] if runs.reach.trunk else shared[0], round(shared[1] / left) if left else own[1], shared[2]
    return flops.overhead(step.flops - sum(step.teacher), whole, shared)


def _of_base(name: str) -> bool:
    return ".original_module." in name or not any(part in name for part in ADAPTERS)


def _bytes(model: Any) -> int:
    return sum(p.nbytes for p in model.parameters())


def _head(model: Any) -> Any:
    return forward.core(model).get_submodule(towers.HEAD).weight


def _largest(model: Any) -> int:
    inner = forward.core(model)
    units = [unit for path in towers.LAYERS.values() for unit in inner.get_submodule(path)]
    return max(_head(model).nbytes, *(sum(p.nbytes for p in unit.parameters()) for unit in units))
