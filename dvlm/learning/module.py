"""The LightningModule of supervised fine-tuning; distillation adds a teacher to its `score`."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from dvlm.config import OptimConfig, RlhfConfig
from dvlm.learning import objective, optim
from dvlm.learning.cached import CachedTeacher
from dvlm.learning.losses import HeadLoss
from dvlm.learning.meter import Meter
from dvlm.learning.teacher import Teacher
from dvlm.models import starts, towers
from dvlm.models.prefix import Reach
from dvlm.models.towers import Tower
from dvlm.models.tuning import Tuned
from dvlm.scale import whole
from dvlm.values import Batch, InputError, generator


class SFTModule(L.LightningModule):
    """Cross-entropy on the supervised tokens, normalised over the whole optimizer step.

    `steps` optimizer steps of `accumulation` micro-batches a rank. `eval_teacher`, if given, adds eval/kl_loss;
    `groups` are the sources and modes whose losses are logged apart; `spread` says that frozen weights are spread over
    ranks, so that each must pass through every layer equally often. Dropout
    draws from `seed` and the number of the pack, so that it depends neither on rank nor on where a run was resumed.
    """

    # Frozen weights are not in a checkpoint: what must be there is checked when a run resumes.
    strict_loading = False

    def __init__(
        self,
        tuned: Tuned,
        *,
        optim_config: OptimConfig,
        rlhf: RlhfConfig,
        steps: int,
        accumulation: int,
        seed: int,
        eval_teacher: Teacher | None = None,
        groups: tuple[str, ...] = (),
        lorap_lr_ratio: float | None = None,
        spread: bool = False,
    ) -> None:
        super().__init__()
        self.tuned, self.optim_config, self.rlhf = tuned, optim_config, rlhf
        self.steps, self.accumulation, self.seed = steps, accumulation, seed
        self.model = tuned.model
        self.eval_teacher, self.groups = eval_teacher, groups
        self.lorap_lr_ratio = lorap_lr_ratio
        self.reach, self.spread = Reach.of(self.model), spread
        objective.give_loss_head(self.model)
        self._window, self._eval = Meter(), Meter()
        self._rates: dict[str, float] = {}
        self._measured: dict[str, float] | None = None
        self.step_tokens = 0  # of this rank, in the step that was measured
        self.skipping = False  # the optimizer leaves this step out
        self.latest: dict[str, float] = {}
        self.validated: int | None = None  # the step of the last whole validation
        self.train()

    def score(self, batch: Batch, teacher: Teacher | None) -> HeadLoss:
        """The fused loss of a batch; with a `teacher` it holds the divergence as well."""
        return objective.score(self.model, batch, teacher, rlhf=self.rlhf, reach=self.reach, spread=self.spread)

    @property
    def train_teacher(self) -> Teacher | None:
        """Whom training steps compare with: nobody."""
        return None

    @property
    def must_pull(self) -> bool:
        """Whether the step under way has gradients for certain: without cross-entropy a student may be at its aim."""
        return self.rlhf.sft_alpha > 0 and not self.skipping

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss whose mean over ranks and accumulated micro-batches is the step's sum over its supervised tokens."""
        return self.learn(batch) * self.divisor

    def learn(self, batch: Batch) -> Tensor:
        """The loss whose sum over micro-batches and mean over ranks is the step's sum over its supervised tokens."""
        torch.manual_seed(int(generator(self.seed, "dropout", 0, batch.pack).integers(2**63)))
        head = self.score(batch, self.train_teacher)
        self._window = self._window + Meter.of(head, batch, self.groups)
        return head.loss / batch.supervised_in_step * self.trainer.world_size

    @property
    def divisor(self) -> int:
        """What the loss of a micro-batch is divided by: Lightning does it, and so does an engine that accumulates."""
        return self.accumulation**2 if self._engine else self.accumulation

    @property
    def _engine(self) -> Any:
        """The strategy where its engine accumulates, clips and steps by itself (DeepSpeed); else None."""
        strategy = self.trainer.strategy
        return strategy if strategy.handles_gradient_accumulation else None

    def step_metrics(self) -> dict[str, float]:
        """The metrics of the step whose last backward pass has run, over all micro-batches and ranks."""
        if self._measured is None:
            meter, self._window = self._window, Meter()
            self._measured = meter.metrics("train", self._total, self.groups) | self._cache_metrics()
            self.step_tokens = meter.telemetry.tokens
        return self._measured | self._rates | ({"train/grad_norm": self._engine.step_norm} if self._engine else {})

    def gradient_norm(self) -> float:
        """The norm of the gradient of the whole step, before it is clipped."""
        return float(whole.total_norm([p.grad for p in self.model.parameters() if p.grad is not None]))

    def end_step(self) -> None:
        """The optimizer step is over and logged."""
        self._measured, self._rates, self.skipping = None, {}, False

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch's sums to those of the validation. Always on the data's own answers."""
        head = self.score(batch, self.eval_teacher or self.train_teacher)
        self._eval = self._eval + Meter.of(head, batch, self.groups)

    def on_validation_epoch_end(self) -> None:
        """Log the sums of the validation."""
        meter, self._eval = self._eval, Meter()
        self.publish(meter.metrics("eval", self._total, self.groups) | self._cache_metrics())
        self.validated = self.trainer.global_step

    def _cache_metrics(self) -> dict[str, float]:
        """Samples whose teacher's states were found, and were computed, since the last call, over all ranks."""
        teacher = self.train_teacher or self.eval_teacher
        if not isinstance(teacher, CachedTeacher):
            return {}
        hits, misses = self._total(teacher.counts().to(self.device, torch.float32)).tolist()
        return {"perf/teacher_cache_hits": hits, "perf/teacher_cache_misses": misses}

    def publish(self, values: dict[str, float]) -> None:
        """Send metrics to every logger at the number of finished optimizer steps, and keep the latest of each."""
        for logger in self.loggers:
            logger.log_metrics(values, step=self.trainer.global_step)
        self.latest |= values

    def _total(self, sums: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(sums, reduce_op="sum")

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule, which moves at every optimizer step."""
        optimizer = optim.build_optimizer(self.model, self.optim_config, self.lorap_lr_ratio)
        schedule = optim.build_schedule(optimizer, self.optim_config, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip to max_grad_norm; the norm before clipping and the learning rates of this step are kept for the log."""
        self._rates = {
            f"lr/{group['name']}": group["lr"] for group in optimizer.param_groups if "no_decay" not in group["name"]
        }
        if self._engine:
            return
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = whole.total_norm([p.grad for p in parameters])
        if self.optim_config.max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.optim_config.max_grad_norm, norm)
        self._rates["train/grad_norm"] = float(norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what trains, no base weights, no teacher; and the latest validation, and the schedule's length."""
        kept = self._kept_shapes()
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in kept}
        checkpoint |= {"steps": self.steps, "validated": self.validated}
        checkpoint["latest"] = {name: value for name, value in self.latest.items() if name.startswith("eval/")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise InputError where the checkpoint does not hold exactly what trains here, or its run has other steps."""
        if checkpoint["steps"] != self.steps:
            raise InputError(
                f"resume_from: the checkpoint is of a run of {checkpoint['steps']} steps, this run has {self.steps}: "
                "its schedule would be another; give the same epochs and max_steps, or start a new run from these "
                "weights with tuner.resume_from_checkpoint"
            )
        kept = self._kept_shapes()
        stored = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
        if stored != kept:
            wrong = sorted(name for name in kept.keys() | stored.keys() if kept.get(name) != stored.get(name))
            raise InputError(
                f"resume_from: the checkpoint does not hold what this run trains: {len(wrong)} parameters are missing, "
                f"unknown or of another shape, such as {wrong[0]}; resume with the same tuner"
            )
        self.latest |= checkpoint["latest"]
        self.validated = checkpoint["validated"]

    def _kept_shapes(self) -> dict[str, torch.Size]:
        """What a checkpoint holds: the parameters that train, and what adapters started from the base began as."""
        training = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {name: whole.shape(tensor) for name, tensor in (training | starts.kept_buffers(self)).items()}

    def tower_of_parameters(self) -> dict[Tower, list[Tensor]]:
        """The trainable parameters of each tower."""
        return {t: [p for _, p in rows if p.requires_grad] for t, rows in towers.parameters(self.model).items()}
