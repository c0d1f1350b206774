"""Starting from the adapter of an earlier stage: what it lacks starts fresh, what does not fit refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import set_peft_model_state_dict
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file

from dvlm.models import forward, load
from dvlm.values import InputError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MUST_AGREE = ("r", "lora_alpha", "use_rslora", "use_dora", "peft_type")


def start_from(model: Any, directory: Path) -> list[str]:
    """Load adapter weights of `directory` into a peft model; returns the names that start fresh.

    Raises InputError for another base, rank, alpha, kind or shape, and for weights that this tuner has no place for.
    """
    if not (directory / WEIGHTS).is_file():
        raise InputError(f"tuner.resume_from_checkpoint: no {WEIGHTS} in {directory}")
    load.check_base(directory, forward.core(model).config._name_or_path, "tuner.resume_from_checkpoint")
    theirs = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    ours = model.peft_config["default"].to_dict()
    for key in MUST_AGREE:
        if theirs.get(key) != ours.get(key):
            raise InputError(
                f"tuner.resume_from_checkpoint: {directory} has {key} {theirs.get(key)}, this run {ours[key]}"
            )
    stored, wanted = load_file(directory / WEIGHTS), get_peft_model_state_dict(model, save_embedding_layers=False)
    unknown = sorted(set(stored) - set(wanted))
    if unknown:
        raise InputError(
            f"tuner.resume_from_checkpoint: {len(unknown)} weights of {directory} have no place in this tuner, "
            f"such as {unknown[0]}; unfreeze their tower, adapt the same modules, or export it and use the merged model"
        )
    for name, tensor in stored.items():
        theirs, ours = tuple(tensor.shape), tuple(wanted[name].shape)
        if theirs != ours:
            raise InputError(f"tuner.resume_from_checkpoint: {name} is {theirs} in {directory}, here {ours}")
    set_peft_model_state_dict(model, wanted | stored)
    return sorted(set(wanted) - set(stored))
