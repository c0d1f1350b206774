"""The towers of Qwen3-VL: the only file that names module paths.

`vit` is the vision trunk, `aligner` the merger and every deepstack merger, `llm` the rest: embeddings, layers, norm and
head. Every parameter belongs to exactly one tower.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

from torch import nn

VISUAL = "model.visual"
MERGER = f"{VISUAL}.merger"
DEEPSTACK = f"{VISUAL}.deepstack_merger_list"
HEAD = "lm_head"
LANGUAGE = "model.language_model"
EMBEDDINGS = f"{LANGUAGE}.embed_tokens"
LAYERS = {"llm": f"{LANGUAGE}.layers", "vit": f"{VISUAL}.blocks"}
AFTER_LAYERS = ("model.language_model.norm.", f"{HEAD}.")
# What peft puts before the path of a module.
WRAPPER = re.compile(r"^(base_model\.model\.)+")


class Tower(StrEnum):
    """A part of the model that is tuned or frozen as one."""

    VIT = "vit"
    ALIGNER = "aligner"
    LLM = "llm"


def plain(name: str) -> str:
    """The path of a module or parameter in the model itself, without what peft puts before it."""
    return WRAPPER.sub("", name)


def tower_of(name: str) -> Tower:
    """The tower of a module or parameter, by its path."""
    path = plain(name)
    if path == MERGER or path.startswith((f"{MERGER}.", f"{DEEPSTACK}.")):
        return Tower.ALIGNER
    return Tower.VIT if path == VISUAL or path.startswith(f"{VISUAL}.") else Tower.LLM


def linears(model: nn.Module, towers: Iterable[Tower]) -> list[str]:
    """Paths of every linear layer in `towers`, the head left out: a tied head cannot be merged."""
    wanted = set(towers)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name != HEAD and tower_of(name) in wanted
    ]


def in_last_layers(model: nn.Module, name: str, last: Mapping[str, int]) -> bool:
    """Whether a module or parameter is outside the towers that `last` names, or in the last so many of their layers.

    Raises ValueError where a tower has fewer layers.
    """
    tower = str(tower_of(name))
    if tower not in last:
        return True
    layers, wanted = len(model.get_submodule(LAYERS[tower])), last[tower]  # type: ignore[arg-type]
    if wanted > layers:
        raise ValueError(f"tuner.last_layers.{tower} is {wanted}, but {tower} has {layers} layers")
    number = re.match(rf"{re.escape(LAYERS[tower])}\.(\d+)\.", f"{plain(name)}.")
    return number is not None and int(number.group(1)) >= layers - wanted


def untouched_layers(model: nn.Module, training: Iterable[str]) -> int:
    """How many of the first layers of the language model come before all of the parameters named in `training`."""
    first = len(model.get_submodule(LAYERS["llm"]))  # type: ignore[arg-type]
    for name in map(plain, training):
        number = re.match(rf"{re.escape(LAYERS['llm'])}\.(\d+)\.", name)
        if number:
            first = min(first, int(number.group(1)))
        elif not name.startswith(AFTER_LAYERS):
            return 0
    return first


def aligner_modules(model: nn.Module) -> list[str]:
    """What the alias `aligner` stands for: the merger, and each deepstack merger by its number."""
    return [name for name, _ in model.named_modules() if name == MERGER or re.fullmatch(rf"{DEEPSTACK}\.\d+", name)]


def units(model: nn.Module) -> list[nn.Module]:
    """What is gathered and released as one where weights are spread over ranks: each layer, each merger."""
    layers = "|".join(re.escape(path) for path in LAYERS.values())
    unit = re.compile(rf"({layers}|{re.escape(DEEPSTACK)})\.\d+|{re.escape(MERGER)}")
    return [module for name, module in model.named_modules() if unit.fullmatch(plain(name))]


def parameters(model: nn.Module) -> dict[Tower, list[tuple[str, nn.Parameter]]]:
    """Every (name, parameter) of the model by tower."""
    towers: dict[Tower, list[tuple[str, nn.Parameter]]] = {tower: [] for tower in Tower}
    for name, parameter in model.named_parameters():
        towers[tower_of(name)].append((name, parameter))
    return towers
