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
    """A model made ready to train: `targets` are the adapted linear layers, `saved` the modules trained whole."""

    model: Any
    targets: tuple[str, ...]
    saved: tuple[str, ...]

    @property
    def is_adapter(self) -> bool:
        """Whether adapters can be switched off to get the base back."""
        return isinstance(self.model, PeftModel)

    def touches(self, tower: Tower) -> bool:
        """Whether anything in `tower` trains."""
        return any(parameter.requires_grad for _, parameter in towers.parameters(self.model)[tower])


def tune(model: nn.Module, config: TunerConfig, *, seed: int) -> Tuned:
    """Freeze, adapt and mark what trains; what trains is kept in float32. Adapters start from `seed`.

    Raises InputError for names that match nothing, and for an adapter on the head.
    """
    model.requires_grad_(False)
    if config.train_type == "full":
        for tower, members in towers.parameters(model).items():
            for _, parameter in members:
                parameter.requires_grad_(tower in _free(config))
        tuned = Tuned(model, (), ())
    else:
        saved = resolve_saved(model, config)
        whole = tuple(f"{name}." for name in saved)
        targets = [name for name in resolve_targets(model, config) if not f"{name}.".startswith(whole)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tuned = Tuned(get_peft_model(model, _lora(config, targets, saved)), tuple(targets), tuple(saved))
    for parameter in tuned.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return tuned


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
    chosen = []
    for entry in pattern:
        if entry == ALL_LINEAR:
            chosen += towers.linears(model, _free(config))
            continue
        if entry == towers.HEAD:
            raise InputError(f"tuner.target_modules: {towers.HEAD} cannot be adapted: it would merge wrongly; drop it")
        found = [name for name in towers.linears(model, _free(config)) if name == entry or name.endswith(f".{entry}")]
        chosen += found or _no_match("tuner.target_modules", entry, towers.linears(model, _free(config)))
    return sorted(set(chosen), key=every.index)


def resolve_saved(model: nn.Module, config: TunerConfig) -> list[str]:
    """The exact modules that train whole beside the adapters; `aligner` stands for all its mergers."""
    names = [name for name, _ in model.named_modules() if name]
    saved: list[str] = []
    for entry in config.modules_to_save:
        if entry == ALIGNER_ALIAS:
            saved += towers.aligner_modules(model)
        elif entry in names:
            if isinstance(model.get_submodule(entry), nn.ModuleList):
                raise InputError(f"tuner.modules_to_save: {entry} is a list; name its members: {entry}.0, ...")
            saved.append(entry)
        else:
            _no_match("tuner.modules_to_save", entry, [*names, ALIGNER_ALIAS])
    return sorted(set(saved), key=names.index)


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
