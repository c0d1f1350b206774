"""Group `tuner`: what trains, and through which adapter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from dvlm.config.knob import at_least, check_paths, knob, one_of, within

TRAIN_TYPES = ("lora", "adalora", "boft", "fourierft", "vera", "full")
OUT_OF_SCOPE = {
    "longlora": "packed attention already keeps long rows cheap",
    "llamapro": "it adds layers, which no adapter file holds",
    "reft": "it edits hidden states, which cannot be merged into weights",
}
LORA_KINDS = ("lora", "adalora")
INITS = ("gaussian", "orthogonal", "pissa", "olora")
PISSA_FAST = re.compile(r"pissa_niter_[1-9]\d*")
NEEDS_DATA = ("eva", "corda", "lora_ga", "loftq")
# Knobs that speak of LoRA alone, and the value that leaves them unused.
LORA_ONLY = {"use_rslora": False, "use_dora": False, "init_lora_weights": True}


@dataclass
class TunerConfig:
    """What trains, and through which adapter. The freeze flags decide which towers are touched at all."""

    train_type: str = knob(
        "lora",
        "adapters: lora | adalora | boft | fourierft | vera; or full (the weights of towers that are not frozen)",
    )
    freeze_llm: bool = knob(False, "leave the language model alone: embeddings, layers, norm, head")
    freeze_vit: bool = knob(True, "leave the vision trunk alone: patches, positions, blocks")
    freeze_aligner: bool = knob(True, "leave the merger and every deepstack merger alone")
    lora_rank: int = knob(32, "lora: rank of each adapter; adalora: rank at the start")
    lora_alpha: int = knob(64, "scale of the adapters: alpha / rank, or alpha / sqrt(rank) with use_rslora")
    lora_dropout: float = knob(0.0, "dropout before each adapter; above 0 steps are no longer equal over world sizes")
    lora_dtype: str | None = knob(None, "dtype in which adapters are kept: null (float32) | float32 | bfloat16")
    lorap_lr_ratio: float | None = knob(None, "LoRA+: learning rate of the B matrices over that of the A matrices")
    lora_bias: str = knob("none", "which biases train: none | all | lora_only")
    use_rslora: bool = knob(False, "scale by alpha / sqrt(rank)")
    use_dora: bool = knob(False, "weight-decomposed LoRA")
    init_lora_weights: Any = knob(
        True,
        "how adapters start: true (B is 0) | gaussian | orthogonal | pissa | pissa_niter_<n> | olora (from the base's "
        "own weights, whose starting product is subtracted): all start as the base; false (random) does not",
    )
    adalora_target_r: int | None = knob(None, "adalora: mean rank at the end; null: half of lora_rank")
    adalora_start_ratio: float = knob(0.1, "adalora: share of the steps before ranks are cut")
    adalora_final_ratio: float = knob(0.3, "adalora: share of the steps, at the end, with ranks that stay")
    adalora_beta1: float = knob(0.85, "adalora: decay of the average importance")
    adalora_beta2: float = knob(0.85, "adalora: decay of the average uncertainty")
    adalora_orth_reg_weight: float = knob(0.5, "adalora: weight of the regulariser that keeps A and B orthogonal")
    boft_block_size: int = knob(4, "boft: side of each rotated block; it must divide the inputs of every adapted layer")
    fourier_n_frequency: int = knob(2000, "fourierft: numbers trained a layer")
    fourier_scaling: float = knob(300.0, "fourierft: scale of the change of the weights")
    fourier_seed: int = knob(777, "fourierft: seed of the frequencies' places")
    vera_rank: int = knob(256, "vera: rank of the random matrices that all layers share")
    vera_seed: int = knob(0, "vera: seed of the shared matrices")
    vera_d_initial: float = knob(0.1, "vera: start of the scales between the shared matrices")
    target_modules: Any = knob(["all-linear"], "list of module names or [all-linear], or one regex (full match)")
    target_regex: str | None = knob(None, "regex instead of target_modules; '^$' means no adapters", text=True)
    # Any: Hydra lets no override put a key into a mapping that is typed.
    last_layers: Any = knob(None, "only the last layers of a tower, such as {llm: 4, vit: 6}; null: all")
    modules_to_save: list[str] = knob([], "modules trained whole beside the adapters; `aligner` is all its mergers")
    resume_from_checkpoint: str | None = knob(
        None,
        "what an earlier stage left, to start from, unless resume_from continues a run: a run, a checkpoint, an "
        "adapter, or a whole model",
        path=True,
    )

    def __post_init__(self) -> None:
        self._check_kind()
        one_of("tuner.lora_bias", self.lora_bias, ("none", "all", "lora_only"))
        if self.lora_dtype is not None:
            one_of("tuner.lora_dtype", self.lora_dtype, ("float32", "bfloat16"))
        at_least("tuner.lorap_lr_ratio", self.lorap_lr_ratio, 0.0, above=True)
        within("tuner.lora_dropout", self.lora_dropout, 0.0, 1.0)
        check_paths("tuner.", self)
        self._check_init()
        self._check_numbers()
        self._check_targets()
        self._check_layers()
        if self.train_type == "full":
            self._check_full()
        elif not self.modules_to_save:
            self._check_adapters()

    def _check_kind(self) -> None:
        kind = self.train_type
        if kind in OUT_OF_SCOPE:
            raise ValueError(
                f"tuner.train_type={kind} is out of scope: {OUT_OF_SCOPE[kind]}; take one of {TRAIN_TYPES}"
            )
        one_of("tuner.train_type", kind, TRAIN_TYPES)
        if kind != "lora":
            set_ = [name for name, unused in LORA_ONLY.items() if getattr(self, name) != unused]
            if set_:
                raise ValueError(f"tuner.{set_[0]} is for train_type lora, but it is {kind}; leave it out")
        if kind not in LORA_KINDS:
            if self.lorap_lr_ratio is not None:
                raise ValueError(f"tuner.lorap_lr_ratio needs B matrices, which {kind} does not have; leave it out")
            if self.lora_bias != "none" or (self.lora_dropout and kind != "vera"):
                raise ValueError(f"tuner.lora_bias and lora_dropout are not for {kind}; leave them out")

    def _check_init(self) -> None:
        start = self.init_lora_weights
        if start in NEEDS_DATA:
            raise ValueError(
                f"tuner.init_lora_weights is '{start}', which looks at data or quantises before training and is not "
                f"supported; take true, {', '.join(INITS)}"
            )
        if not isinstance(start, bool) and not (isinstance(start, str) and PISSA_FAST.fullmatch(start)):
            one_of("tuner.init_lora_weights", start, INITS)
        if self.starts_from_base and self.use_dora:
            raise ValueError(f"tuner.use_dora and init_lora_weights={start} exclude each other; take one of them")
        if start == "orthogonal" and self.lora_rank % 2:
            raise ValueError(f"tuner.init_lora_weights=orthogonal needs an even lora_rank, but it is {self.lora_rank}")

    def _check_numbers(self) -> None:
        for name in ("lora_rank", "lora_alpha", "boft_block_size", "fourier_n_frequency", "vera_rank"):
            at_least(f"tuner.{name}", getattr(self, name), 1)
        for name in ("adalora_orth_reg_weight", "fourier_seed", "vera_seed"):
            at_least(f"tuner.{name}", getattr(self, name), 0)
        for name in ("fourier_scaling", "vera_d_initial"):
            at_least(f"tuner.{name}", getattr(self, name), 0.0, above=True)
        for name in ("adalora_beta1", "adalora_beta2"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"tuner.{name} is {getattr(self, name)}, expected a number between 0 and 1")
        self._check_ranks()

    def _check_ranks(self) -> None:
        for name in ("adalora_start_ratio", "adalora_final_ratio"):
            within(f"tuner.{name}", getattr(self, name), 0.0, 1.0)
        if self.adalora_start_ratio + self.adalora_final_ratio >= 1:
            raise ValueError(
                f"tuner.adalora_start_ratio {self.adalora_start_ratio} and adalora_final_ratio "
                f"{self.adalora_final_ratio} leave no steps between them, in which ranks are cut; lower one"
            )
        at_least("tuner.adalora_target_r", self.adalora_target_r, 1)
        if self.train_type == "adalora" and not 1 <= self.final_rank < self.lora_rank:
            raise ValueError(
                f"tuner.adalora_target_r is {self.final_rank}, expected at least 1 and less than lora_rank "
                f"({self.lora_rank}), from which ranks are cut"
            )

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
        if self.modules_to_save:
            raise ValueError("tuner.train_type=full has no adapters: drop modules_to_save, and unfreeze the tower")

    @property
    def _all_frozen(self) -> bool:
        return self.freeze_llm and self.freeze_vit and self.freeze_aligner

    @property
    def wants_adapters(self) -> bool:
        """False when `target_regex: '^$'` or `target_modules: []` asks for no adapters."""
        return self.target_regex != "^$" and bool(self.target_regex or self.target_modules)

    @property
    def starts_from_base(self) -> bool:
        """Whether adapters start from the base's own weights (PiSSA, OLoRA), and not at zero effect."""
        return isinstance(self.init_lora_weights, str) and self.init_lora_weights.startswith(("pissa", "olora"))

    @property
    def starts_as_base(self) -> bool:
        """Whether the adapted model is its base before the first step."""
        return self.init_lora_weights is not False

    @property
    def final_rank(self) -> int:
        """AdaLoRA's mean rank at the end."""
        return self.adalora_target_r or self.lora_rank // 2

    @property
    def label(self) -> str:
        """The kind of adapter in a few words: `dora r=32`, `adalora r=32..16`, `boft b=4`."""
        name = "dora" if self.use_dora else "rslora" if self.use_rslora else self.train_type
        name = str(self.init_lora_weights) if self.starts_from_base else name
        size = {
            "adalora": f"r={self.lora_rank}..{self.final_rank}",
            "boft": f"b={self.boft_block_size}",
            "fourierft": f"n={self.fourier_n_frequency}",
            "vera": f"r={self.vera_rank}",
        }
        return f"{name} {size.get(self.train_type, f'r={self.lora_rank}')}"


def _compile(key: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{key} is '{pattern}', which is not a regex: {error}") from error
