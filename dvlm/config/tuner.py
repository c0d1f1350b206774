"""Group `tuner`: what trains, and through which adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dvlm.config.knob import at_least, knob, one_of, within

TRAIN_TYPES = ("lora", "full")


@dataclass
class TunerConfig:
    """What trains, and through which adapter. The freeze flags decide which towers are touched at all."""

    train_type: str = knob("lora", "lora (adapters) | full (the weights of every tower that is not frozen)")
    freeze_llm: bool = knob(False, "leave the language model alone: embeddings, layers, norm, head")
    freeze_vit: bool = knob(True, "leave the vision trunk alone: patches, positions, blocks")
    freeze_aligner: bool = knob(True, "leave the merger and every deepstack merger alone")
    lora_rank: int = knob(32, "rank of each adapter")
    lora_alpha: int = knob(64, "scale of the adapters: alpha / rank, or alpha / sqrt(rank) with use_rslora")
    lora_dropout: float = knob(0.0, "dropout before each adapter; above 0 steps are no longer equal over world sizes")
    lora_bias: str = knob("none", "which biases train: none | all | lora_only")
    use_rslora: bool = knob(False, "scale by alpha / sqrt(rank)")
    use_dora: bool = knob(False, "weight-decomposed LoRA")
    init_lora_weights: bool = knob(True, "start adapters at zero effect, so that the student starts as its base")
    target_modules: Any = knob(["all-linear"], "list of module names or [all-linear], or one regex (full match)")
    target_regex: str | None = knob(None, "regex over module names, instead of target_modules; '^$' means no adapters")
    modules_to_save: list[str] = knob([], "modules trained whole beside the adapters; `aligner` is all its mergers")
    resume_from_checkpoint: str | None = knob(None, "adapter of an earlier stage whose weights to start from", path=True)

    def __post_init__(self) -> None:
        one_of("tuner.train_type", self.train_type, TRAIN_TYPES)
        one_of("tuner.lora_bias", self.lora_bias, ("none", "all", "lora_only"))
        at_least("tuner.lora_rank", self.lora_rank, 1)
        at_least("tuner.lora_alpha", self.lora_alpha, 1)
        within("tuner.lora_dropout", self.lora_dropout, 0.0, 1.0)
        if not isinstance(self.target_modules, str | list):
            raise ValueError(f"tuner.target_modules is {self.target_modules!r}, expected a list or one regex")
        if self.train_type == "full":
            self._check_full()
        elif not self.wants_adapters and not self.modules_to_save:
            raise ValueError("tuner has neither adapters nor modules_to_save: nothing would train; name some modules")

    def _check_full(self) -> None:
        if self.freeze_llm and self.freeze_vit and self.freeze_aligner:
            raise ValueError("tuner.train_type=full with every tower frozen: nothing would train; unfreeze one")
        if self.modules_to_save or self.resume_from_checkpoint:
            raise ValueError("tuner.train_type=full has no adapters: drop modules_to_save and resume_from_checkpoint")

    @property
    def wants_adapters(self) -> bool:
        """False when `target_regex: '^$'` or `target_modules: []` asks for no adapters."""
        return self.target_regex != "^$" and bool(self.target_regex or self.target_modules)
