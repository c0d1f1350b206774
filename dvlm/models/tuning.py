"""What trains: freeze flags, adapters, modules trained whole. The result names exactly what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import nn

from dvlm.config import TunerConfig
from dvlm.models import kinds, starts, targets, towers
from dvlm.models.towers import Tower


@dataclass(frozen=True)
class Tuned:
    """A model made ready to train: `targets` are the adapted linear layers, `saved` the modules trained whole, `biases`
    the parameters of the base itself that train beside them (`lora_bias`). Where weights come from an earlier stage,
    `origin` says from where, and `fresh` names those that it lacks."""

    model: Any
    targets: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    origin: str = ""
    fresh: tuple[str, ...] = ()

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

    Raises InputError for names that match nothing, for an adapter on the head, and for layers that a kind cannot adapt.
    """
    model.requires_grad_(False)
    tuned = _whole(model, config) if config.train_type == "full" else _adapted(model, config, seed)
    for name, parameter in tuned.model.named_parameters():
        if parameter.requires_grad:
            kept = config.lora_dtype if kinds.is_adapter(name) and config.lora_dtype else "float32"
            parameter.data = parameter.data.to(getattr(torch, kept))
    return tuned


def _whole(model: nn.Module, config: TunerConfig) -> Tuned:
    for tower, members in towers.parameters(model).items():
        for name, parameter in members:
            parameter.requires_grad_(tower in targets.free(config) and targets.in_layers(model, name, config))
    return Tuned(model)


def _adapted(model: nn.Module, config: TunerConfig, seed: int) -> Tuned:
    saved = targets.resolve_saved(model, config)
    whole = tuple(f"{name}." for name in saved)
    chosen = [name for name in targets.resolve_targets(model, config) if not f"{name}.".startswith(whole)]
    settings = kinds.peft_config(model, config, chosen, saved)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(model, settings)
        if config.starts_from_base:
            starts.start_from_base(adapted, str(config.init_lora_weights))
    return Tuned(adapted, tuple(chosen), tuple(saved), _biases(adapted, config, chosen))


def _biases(model: nn.Module, config: TunerConfig, adapted: list[str]) -> tuple[str, ...]:
    """The biases of the base that train; with `lora_bias=all` peft does not ask what is frozen, so it is done here."""
    free, layers = targets.free(config), tuple(f"{name}." for name in adapted)
    biases = []
    for name, parameter in model.named_parameters():
        if not (parameter.requires_grad and name.endswith(".bias")) or ".modules_to_save." in name:
            continue
        path = towers.plain(name)
        if ".original_module." in name or not (path.startswith(layers) or towers.tower_of(name) in free):
            parameter.requires_grad_(False)
        else:
            biases.append(path)
    return tuple(biases)
