"""What trains: freeze flags, adapters, modules trained whole. The result names exactly what was asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from dvlm.config import TunerConfig
from dvlm.models import towers
from dvlm.models.towers import Tower
from dvlm.values import InputError

ALIGNER_ALIAS = "aligner"
ALL_LINEAR = "all-linear"
NO_TARGET = "dummy-target-modules"  # peft's own name for an adapter without targets


@dataclass(frozen=True)
class Tuned:
    """A model made ready to train: `targets` are the adapted linear layers, `saved` the modules trained whole, `biases`
    the parameters of the base itself that train beside them (`lora_bias`)."""

    model: Any
    targets: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()

    @property
    def is_adapter(self) -> bool:
        """Whether what trains are adapters."""
        return isinstance(self.model, PeftModel)

    @property
    def keeps_base(self) -> bool:
        """Whether adapters can be switched off to get the base back."""
        return self.is_adapter and not self.biases

    def touches(self, tower: Tower) -> bool:
        """Whether anything in `tower` trains."""
        return any(parameter.requires_grad for _, parameter in towers.parameters(self.model)[tower])


def tune(model: nn.Module, config: TunerConfig, *, seed: int) -> Tuned:
    """Freeze, adapt and mark what trains, kept in float32 (adapters in `lora_dtype`). Adapters start from `seed`.

    Raises InputError for names that match nothing, and for an adapter on the head.
    """
    model.requires_grad_(False)
    if config.train_type == "full":
        for tower, members in towers.parameters(model).items():
            for name, parameter in members:
                parameter.requires_grad_(tower in _free(config) and _in_layers(model, name, config))
        tuned = Tuned(model)
    else:
        saved = resolve_saved(model, config)
        whole = tuple(f"{name}." for name in saved)
        targets = [name for name in resolve_targets(model, config) if not f"{name}.".startswith(whole)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted = get_peft_model(model, _lora(config, targets, saved))
        tuned = Tuned(adapted, tuple(targets), tuple(saved), _biases(adapted, config, targets))
    for name, parameter in tuned.model.named_parameters():
        if parameter.requires_grad:
            kept = config.lora_dtype if ".lora_" in name and config.lora_dtype else "float32"
            parameter.data = parameter.data.to(getattr(torch, kept))
    return tuned


def _biases(model: nn.Module, config: TunerConfig, targets: list[str]) -> tuple[str, ...]:
    """The biases of the base that train; with `lora_bias=all` peft does not ask what is frozen, so it is done here."""
    free, adapted = _free(config), tuple(f"{name}." for name in targets)
    biases = []
    for name, parameter in model.named_parameters():
        if not (parameter.requires_grad and name.endswith(".bias")) or ".modules_to_save." in name:
            continue
        path = towers.plain(name)
        if ".original_module." in name or not (path.startswith(adapted) or towers.tower_of(name) in free):
            parameter.requires_grad_(False)
        else:
            biases.append(path)
    return tuple(biases)


def _in_layers(model: nn.Module, name: str, config: TunerConfig) -> bool:
    try:
        return towers.in_last_layers(model, name, config.last_layers)
    except ValueError as error:
        raise InputError(str(error)) from error


def _free(config: TunerConfig) -> list[Tower]:
    frozen = {Tower.LLM: config.freeze_llm, Tower.VIT: config.freeze_vit, Tower.ALIGNER: config.freeze_aligner}
    return [tower for tower, is_frozen in frozen.items() if not is_frozen]


def resolve_targets(model: nn.Module, config: TunerConfig) -> list[str]:
    """The exact linear layers that get an adapter; [] means none, as `target_regex: '^$'` asks for."""
    if not config.wants_adapters:
        return []
    pattern = config.target_regex or config.target_modules
    every = towers.linears(model, Tower)
    if isinstance(pattern, str):
        chosen = [name for name in every if re.fullmatch(pattern, name)]
        if re.fullmatch(pattern, towers.HEAD):
            raise InputError(f"tuner: '{pattern}' adapts {towers.HEAD}, which cannot be merged; leave it out")
        key = "tuner.target_regex" if config.target_regex else "tuner.target_modules"
        return chosen or _no_match(key, pattern, every)
    candidates = [name for name in towers.linears(model, _free(config)) if _in_layers(model, name, config)]
    chosen = []
    for entry in pattern:
        if entry == ALL_LINEAR:
            chosen += candidates
            continue
        if entry == towers.HEAD:
            raise InputError(f"tuner.target_modules: {towers.HEAD} cannot be adapted: it would merge wrongly; drop it")
        found = [name for name in candidates if name == entry or name.endswith(f".{entry}")]
        chosen += found or _no_match("tuner.target_modules", entry, candidates)
    return sorted(set(chosen), key=every.index)


def resolve_saved(model: nn.Module, config: TunerConfig) -> list[str]:
    """The exact modules that train whole beside the adapters; `aligner` stands for all its mergers."""
    names = [name for name, _ in model.named_modules() if name]
    saved: list[str] = []
    for entry in config.modules_to_save:
        if entry == ALIGNER_ALIAS:
            saved += towers.aligner_modules(model)
        elif entry in names:
            _check_saved(model, entry)
            saved.append(entry)
        else:
            _no_match("tuner.modules_to_save", entry, [*names, ALIGNER_ALIAS])
    return sorted(set(saved), key=names.index)


def _check_saved(model: nn.Module, name: str) -> None:
    if isinstance(model.get_submodule(name), nn.ModuleList):
        raise InputError(f"tuner.modules_to_save: {name} is a list; name its members: {name}.0, ...")
    tied = model.get_parameter(f"{towers.EMBEDDINGS}.weight") is model.get_parameter(f"{towers.HEAD}.weight")
    if name == towers.HEAD or (tied and f"{towers.EMBEDDINGS}.".startswith(f"{name}.")):
        raise InputError(
            f"tuner.modules_to_save: {name} holds the head or what is tied to it, which cannot be copied; "
            "leave it out, or train it with tuner.train_type=full"
        )


def _no_match(key: str, pattern: str, names: list[str]) -> list[str]:
    literal = pattern.replace("\\.", ".")
    tails = {name.rpartition(".")[2]: name for name in reversed(names)}
    near = get_close_matches(literal, names, n=3, cutoff=0.4) or [
        tails[tail] for tail in get_close_matches(literal, tails, n=3, cutoff=0.4)
    ]
    raise InputError(f"{key}: '{pattern}' matches no module; nearest: {', '.join(near or names[:3])}")


def _lora(config: TunerConfig, targets: list[str], saved: list[str]) -> LoraConfig:
    if not targets and not saved:
        raise InputError("tuner: nothing trains: no adapters and no modules_to_save; unfreeze a tower")
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias=config.lora_bias,  # type: ignore[arg-type]
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        init_lora_weights=config.init_lora_weights,
        target_modules=targets or NO_TARGET,
        modules_to_save=saved or None,
    )
