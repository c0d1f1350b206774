"""Which modules the tuner means: names, regexes, aliases and freeze flags become exact paths."""

from __future__ import annotations

import re
from difflib import get_close_matches

from torch import nn

from dvlm.config import TunerConfig
from dvlm.models import towers
from dvlm.models.towers import Tower
from dvlm.values import InputError

ALIGNER_ALIAS = "aligner"
ALL_LINEAR = "all-linear"


def free(config: TunerConfig) -> list[Tower]:
    """The towers that are not frozen."""
    frozen = {Tower.LLM: config.freeze_llm, Tower.VIT: config.freeze_vit, Tower.ALIGNER: config.freeze_aligner}
    return [tower for tower, is_frozen in frozen.items() if not is_frozen]


def in_layers(model: nn.Module, name: str, config: TunerConfig) -> bool:
    """Whether `tuner.last_layers` leaves a module or parameter in; raises InputError where there are fewer layers."""
    try:
        return towers.in_last_layers(model, name, config.last_layers)
    except ValueError as error:
        raise InputError(str(error)) from error


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
    candidates = [name for name in towers.linears(model, free(config)) if in_layers(model, name, config)]
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
