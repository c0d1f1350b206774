"""The kinds of adapters: each one's settings in peft."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from peft import AdaLoraConfig, BOFTConfig, FourierFTConfig, LoraConfig, PeftConfig, VeraConfig
from torch import nn

from dvlm.config import TunerConfig
from dvlm.values import InputError

NO_TARGET = "dummy-target-modules"  # peft's own name for an adapter without targets
PARAMETER = re.compile(r"\.(lora|boft|fourierft|vera)_\w+\.|\.ranknum\.")


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter, and not to the model."""
    return PARAMETER.search(name) is not None


def peft_config(model: nn.Module, config: TunerConfig, targets: list[str], saved: list[str]) -> PeftConfig:
    """The settings of `config.train_type` on `targets`, with `saved` trained whole.

    Raises InputError where nothing would train, and where a layer does not suit the kind.
    """
    if not targets and not saved:
        raise InputError("tuner: nothing trains: no adapters and no modules_to_save; unfreeze a tower")
    common: dict[str, Any] = {"target_modules": targets or NO_TARGET, "modules_to_save": saved or None}
    makers: dict[str, Callable[..., PeftConfig]] = {
        "lora": _lora,
        "adalora": _adalora,
        "boft": _boft,
        "fourierft": _fourierft,
        "vera": _vera,
    }
    _check_layers(model, config, targets)
    return makers[config.train_type](config, common)


def _check_layers(model: nn.Module, config: TunerConfig, targets: list[str]) -> None:
    for name in targets:
        rows, columns = model.get_submodule(name).weight.shape  # type: ignore[misc]
        if config.train_type == "boft" and columns % config.boft_block_size:
            raise InputError(f"tuner.boft_block_size is {config.boft_block_size}, but {name} has {columns} inputs")
        if config.train_type == "fourierft" and config.fourier_n_frequency > rows * columns:
            raise InputError(
                f"tuner.fourier_n_frequency is {config.fourier_n_frequency}, but {name} has {rows * columns} weights"
            )
        if config.starts_from_base and config.lora_rank > min(rows, columns):
            raise InputError(
                f"tuner.init_lora_weights={config.init_lora_weights} takes a part of each weight, but lora_rank is "
                f"{config.lora_rank} and {name} is {rows} x {columns}; lower the rank"
            )


def _lora(config: TunerConfig, common: dict[str, Any]) -> PeftConfig:
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias=config.lora_bias,  # type: ignore[arg-type]
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        # PiSSA and OLoRA are started by dvlm.models.starts, which leaves the base as it is.
        init_lora_weights=True if config.starts_from_base else config.init_lora_weights,
        **common,
    )


def _adalora(config: TunerConfig, common: dict[str, Any]) -> PeftConfig:
    return AdaLoraConfig(
        init_r=config.lora_rank,
        target_r=config.final_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias=config.lora_bias,  # type: ignore[arg-type]
        beta1=config.adalora_beta1,
        beta2=config.adalora_beta2,
        orth_reg_weight=config.adalora_orth_reg_weight,
        total_step=1,  # the run sets its own length and schedule when it starts
        **common,
    )


def _boft(config: TunerConfig, common: dict[str, Any]) -> PeftConfig:
    return BOFTConfig(boft_block_size=config.boft_block_size, **common)


def _fourierft(config: TunerConfig, common: dict[str, Any]) -> PeftConfig:
    return FourierFTConfig(
        n_frequency=config.fourier_n_frequency,
        scaling=config.fourier_scaling,
        random_loc_seed=config.fourier_seed,
        init_weights=True,  # peft's own default starts at random, away from the base
        **common,
    )


def _vera(config: TunerConfig, common: dict[str, Any]) -> PeftConfig:
    return VeraConfig(
        r=config.vera_rank,
        projection_prng_key=config.vera_seed,
        d_initial=config.vera_d_initial,
        vera_dropout=config.lora_dropout,
        **common,
    )
