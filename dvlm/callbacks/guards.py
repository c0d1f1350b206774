"""Guards: a step whose loss or gradient is not finite, or that spikes, is found before the weights move."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import isfinite
from statistics import median
from typing import Any, NamedTuple, Protocol

import lightning as L

from dvlm.config.guards import GuardsConfig
from dvlm.values import InputError

log = logging.getLogger(__name__)
PAGE = "docs/troubleshooting.md"


class Finding(NamedTuple):
    """What is wrong with a step, what to do about it, and the section of the page that tells more."""

    what: str
    policy: str
    section: str


class GuardError(InputError):
    """A step that stopped the run."""


class Recorder(Protocol):
    """Names the records of a step, and keeps what is needed to run it again."""

    def records(self, step: int) -> list[str]:
        """`file:line` of every record of the step that follows `step` finished ones."""
        ...

    def dump(self, module: Any, step: int, what: str, values: Mapping[str, float]) -> str:
        """Write the step; returns where."""
        ...


class Guards(L.Callback):
    """Looks at each step after its last backward pass. Every rank sees the same sums, and so decides alike.

    A skipped step leaves weights and optimizer as they are; the schedule goes on. Comes before what looks at gradients.
    """

    def __init__(self, config: GuardsConfig, recorder: Recorder) -> None:
        self.config, self.recorder = config, recorder
        self.windows: dict[str, list[float]] = {}
        self.skipped = 0

    def state_dict(self) -> dict[str, Any]:
        """The windows, and how many steps were skipped."""
        return {"windows": self.windows, "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over windows and count."""
        self.windows, self.skipped = dict(state_dict["windows"]), state_dict["skipped"]

    def on_before_optimizer_step(self, trainer: L.Trainer, module: Any, optimizer: Any) -> None:
        """Judge the step: nothing, a warning, a step that is left out, or the end."""
        if not trainer.strategy.handles_gradient_accumulation:
            self._judge(trainer, module, optimizer, module.step_metrics() | {"train/grad_norm": module.gradient_norm()})

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """An engine that steps by itself shows its gradients to nobody: judge what was logged, before it is saved."""
        if trainer.strategy.handles_gradient_accumulation and (batch_idx + 1) % module.accumulation == 0:
            values = {name: value for name, value in module.latest.items() if name.startswith("train/")}
            self._judge(trainer, module, trainer.optimizers[0], values)

    def _judge(self, trainer: L.Trainer, module: Any, optimizer: Any, values: Mapping[str, float]) -> None:
        found = self._not_finite(values) or self._spike(values)
        if found is None:
            self._remember(values)
            return
        skips = found.policy == "skip" and self.skipped < self.config.max_skips
        outcome = "the step is skipped" if skips else "warning" if found.policy == "warn" else "stopped"
        message = f"{outcome}: {self._told(trainer, module, optimizer, found, values)}"
        if skips:
            self.skipped += 1
            # Without gradients the optimizer touches neither weights nor its own state.
            optimizer.zero_grad(set_to_none=True)
            module.skipping = True
        elif found.policy != "warn":
            raise GuardError(message)
        if trainer.is_global_zero:
            log.warning(message)

    def _not_finite(self, values: Mapping[str, float]) -> Finding | None:
        wrong = [f"{name} is {values[name]}" for name in sorted(values) if not isfinite(values[name])]
        return Finding(", ".join(wrong), self.config.policy, "nan-loss") if wrong else None

    def _spike(self, values: Mapping[str, float]) -> Finding | None:
        if self.config.spike_policy == "off":
            return None
        factors = {"train/kl_loss": self.config.kl_factor, "train/loss": self.config.loss_factor}
        for name, factor in factors.items():
            window = self.windows.get(self._key(name, values), [])
            if name not in values or len(window) < self.config.window // 2:
                continue
            usual = median(window)
            if values[name] > max(factor * usual, self.config.floor):
                what = f"{name} is {values[name]:.4g}, the median of the {len(window)} steps before is {usual:.4g}"
                section = "kl-spike" if name.endswith("kl_loss") else "loss-spikes"
                return Finding(what, self.config.spike_policy, section)
        return None

    def _remember(self, values: Mapping[str, float]) -> None:
        for name in ("train/kl_loss", "train/loss"):
            if name in values:
                window = self.windows.setdefault(self._key(name, values), [])
                window.append(values[name])
                del window[: -self.config.window]

    def _key(self, name: str, values: Mapping[str, float]) -> str:
        """The student's own samples have losses of their own size, and so a window of their own."""
        return f"{name}/on_policy" if values.get("train/on_policy") else name

    def _told(
        self, trainer: L.Trainer, module: Any, optimizer: Any, found: Finding, values: Mapping[str, float]
    ) -> str:
        step = trainer.global_step
        records = self.recorder.records(step)
        more = f" and {len(records) - 3} more" if len(records) > 3 else ""
        rates = ", ".join(f"{group['name']} {group['lr']:.3g}" for group in optimizer.param_groups)
        place = self.recorder.dump(module, step, found.what, values) if trainer.is_global_zero else "the first rank's"
        packs = module.accumulation * trainer.world_size
        return (
            f"step {step + 1}: {found.what}. Records: {', '.join(records[:3])}{more}. Learning rate: {rates}. "
            f"Effective batch: {packs} packs, {values.get('train/token_count', 0):.0f} supervised tokens. "
            f"Again: python -m dvlm.replay {place}. See {PAGE}#{found.section}"
        )

    def on_save_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Refuse to save weights that are not finite: what was saved before stays the last."""
        training = [parameter for parameter in module.parameters() if parameter.requires_grad]
        # Of a parameter that is spread over ranks each looks at its part; all of them decide alike.
        parts = [getattr(parameter, "to_local", lambda same=parameter: same)() for parameter in training]
        finite = all(bool(part.isfinite().all()) for part in parts)
        if not trainer.strategy.reduce_boolean_decision(finite):
            raise GuardError(
                f"step {trainer.global_step}: a weight that trains is not finite, and nothing is saved; resume the "
                f"last checkpoint with a lower optim.learning_rate. See {PAGE}#nan-loss"
            )
