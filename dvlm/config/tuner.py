"""Group `tuner`: what trains, and through which adapter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from dvlm.config.knob import at_least, check_paths, knob, one_of, within

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
    lora_dtype: str | None = knob(None, "dtype in which adapters are kept: null (float32) | float32 | bfloat16")
    lorap_lr_ratio: float | None = knob(None, "LoRA+: learning rate of the B matrices over that of the A matrices")
    lora_bias: str = knob("none", "which biases train: none | all | lora_only")
    use_rslora: bool = knob(False, "scale by alpha / sqrt(rank)")
    use_dora: bool = knob(False, "weight-decomposed LoRA")
    init_lora_weights: bool = knob(True, "start adapters at zero effect, so that the student starts as its base")
    target_modules: Any = knob(["all-linear"], "list of module names or [all-linear], or one regex (full match)")
    target_regex: str | None = knob(None, "regex instead of target_modules; '^$' means no adapters", text=True)
    # Any: Hydra lets no override put a key into a mapping that is typed.
    last_layers: Any = knob(None, "only the last layers of a tower, such as {llm: 4, vit: 6}; null: all")
    modules_to_save: list[str] = knob([], "modules trained whole beside the adapters; `aligner` is all its mergers")
    resume_from_checkpoint: str | None = knob(
        None, "adapter of an earlier stage: its weights to start from, unless resume_from continues a run", path=True
    )

    def __post_init__(self) -> None:
        one_of("tuner.train_type", self.train_type, TRAIN_TYPES)
        one_of("tuner.lora_bias", self.lora_bias, ("none", "all", "lora_only"))
        at_least("tuner.lora_rank", self.lora_rank, 1)
        at_least("tuner.lora_alpha", self.lora_alpha, 1)
        if self.lora_dtype is not None:
            one_of("tuner.lora_dtype", self.lora_dtype, ("float32", "bfloat16"))
        at_least("tuner.lorap_lr_ratio", self.lorap_lr_ratio, 0.0, above=True)
        within("tuner.lora_dropout", self.lora_dropout, 0.0, 1.0)
        check_paths("tuner.", self)
        self._check_targets()
        self._check_layers()
        if self.train_type == "full":
            self._check_full()
        elif not self.modules_to_save:
            self._check_adapters()

    def _check_targets(self) -> None:
        names, regex = self.target_modules, self.target_regex
        if not isinstance(names, str | list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"tuner.target_modules is {names!r}, expected a list of module names or one regex")
        if regex and names not in ([], ["all-linear"]):
            raise ValueError(f"tuner.target_regex and tuner.target_modules ({names!r}) are both set; give one of them")
        for key, pattern in (("target_regex", regex), ("target_modules", names)):
            if isinstance(pattern, str):
                _compile(f"tuner.{key}", pattern)

    def _check_layers(self) -> None:
        self.last_layers = self.last_layers or {}
        if not isinstance(self.last_layers, dict):
            raise ValueError(f"tuner.last_layers is {self.last_layers!r}, expected a mapping such as {{llm: 4}}")
        frozen = {"llm": self.freeze_llm, "vit": self.freeze_vit}
        for tower, count in self.last_layers.items():
            one_of("tuner.last_layers", tower, frozen)
            if isinstance(count, bool) or not isinstance(count, int):
                raise ValueError(f"tuner.last_layers.{tower} is {count!r}, expected a number of layers")
            at_least(f"tuner.last_layers.{tower}", count, 1)
            if frozen[tower]:
                raise ValueError(f"tuner.last_layers names {tower}, which is frozen; set tuner.freeze_{tower}=false")
        if self.last_layers and (self.target_regex or isinstance(self.target_modules, str)):
            raise ValueError("tuner.last_layers and a regex both choose layers; give one of them")

    def _check_adapters(self) -> None:
        if not self.wants_adapters:
            raise ValueError("tuner has neither adapters nor modules_to_save: nothing would train; name some modules")
        by_regex = self.target_regex or isinstance(self.target_modules, str)  # a regex does not ask what is frozen
        if self._all_frozen and not by_regex:
            raise ValueError("tuner freezes llm, vit and aligner: nothing would train; unfreeze one of them")

    def _check_full(self) -> None:
        if self._all_frozen:
            raise ValueError("tuner.train_type=full with every tower frozen: nothing would train; unfreeze one")
        if self.modules_to_save or self.resume_from_checkpoint:
            raise ValueError("tuner.train_type=full has no adapters: drop modules_to_save and resume_from_checkpoint")

    @property
    def _all_frozen(self) -> bool:
        return self.freeze_llm and self.freeze_vit and self.freeze_aligner

    @property
    def wants_adapters(self) -> bool:
        """False when `target_regex: '^$'` or `target_modules: []` asks for no adapters."""
        return self.target_regex != "^$" and bool(self.target_regex or self.target_modules)


def _compile(key: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{key} is '{pattern}', which is not a regex: {error}") from error
