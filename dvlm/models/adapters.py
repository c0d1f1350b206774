"""Adapter files in peft's own format: written, and read again as the start of a later stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import PeftModel, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper, get_peft_model_state_dict
from safetensors.torch import save_file

from dvlm.models import forward, load, starts, weights
from dvlm.values import InputError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
KEY = "tuner.resume_from_checkpoint"
# Settings that give the weights their meaning: another value would read them as another change of the base.
MUST_AGREE = (
    "peft_type",
    "r",
    "init_r",
    "lora_alpha",
    "use_rslora",
    "use_dora",
    "boft_block_size",
    "n_frequency",
    "scaling",
    "random_loc_seed",
    "projection_prng_key",
)


def save(model: Any, directory: Path, whole: dict[str, Any] | None = None) -> None:
    """Write the adapter of a peft model so that plain `PeftModel.from_pretrained` reads it on the base itself.

    `whole`: the state of a model whose own is spread over ranks.
    """
    model.save_pretrained(directory, save_embedding_layers=False, state_dict=whole)
    if not starts.is_started(model):
        return
    state, changed = starts.as_plain_lora(model, weights.read(directory / WEIGHTS))
    save_file(state, directory / WEIGHTS, metadata={"format": "pt"})
    settings = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    (directory / CONFIG).write_text(json.dumps(settings | changed, indent=2, sort_keys=True), encoding="utf-8")


def attached(model: Any, directory: Path) -> Any:
    """The base model with the adapter of `directory` on it; raises InputError where its weights are no safetensors."""
    weights.check(directory / WEIGHTS)  # peft would look for a pickle where there is no such file
    return PeftModel.from_pretrained(model, str(directory))


def merged(model: Any) -> Any:
    """The base model with the adapters of a peft model in its weights, and the modules trained whole in their places.

    (`merge_and_unload` of kinds other than LoRA fails on a module trained whole that has no weight of its own.)
    """
    base = model.get_base_model()
    for name, module in list(base.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            base.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            base.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
    return base.requires_grad_(False)


def start_from(model: Any, directory: Path) -> list[str]:
    """Load adapter weights of `directory` into a peft model; returns the names that start fresh.

    Raises InputError for another base, rank, alpha, kind or shape, and for weights that this tuner has no place for.
    """
    if not (directory / WEIGHTS).is_file():
        raise InputError(f"{KEY}: no {WEIGHTS} in {directory}")
    load.check_base(directory, forward.core(model).config._name_or_path, KEY)
    _check_settings(model, directory)
    stored, wanted = weights.read(directory / WEIGHTS), get_peft_model_state_dict(model, save_embedding_layers=False)
    unknown = sorted(set(stored) - set(wanted))
    if unknown:
        raise InputError(
            f"{KEY}: {len(unknown)} weights of {directory} have no place in this tuner, such as {unknown[0]}; "
            "unfreeze their tower, adapt the same modules, or export it and use the merged model"
        )
    for name, tensor in stored.items():
        theirs, ours = tuple(tensor.shape), tuple(wanted[name].shape)
        if theirs != ours:
            raise InputError(
                f"{KEY}: {name} is {theirs} in {directory}, here {ours}; export it and give the merged model"
            )
    set_peft_model_state_dict(model, wanted | stored)
    return sorted(set(wanted) - set(stored))


def _check_settings(model: Any, directory: Path) -> None:
    theirs = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    ours = model.peft_config["default"].to_dict()
    for name in (name for name in MUST_AGREE if theirs.get(name) != ours.get(name)):
        raise InputError(
            f"{KEY}: {directory} has {name} {theirs.get(name)}, this run {ours.get(name)}; give this run the same "
            "tuner, or export it and give the merged model"
        )
    if starts.is_started(model):
        raise InputError(
            f"{KEY}: {directory} holds adapters, but tuner.init_lora_weights starts them from the base's weights; set "
            "it to true (such an adapter is saved as a LoRA of twice its rank and alpha), or give the merged model"
        )
