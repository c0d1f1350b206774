"""From a command line to a typed configuration, and errors that name the key and the nearest right one.

Everything here runs before torch is imported: a typo costs a fraction of a second.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from dvlm.config import keys, secrets
from dvlm.config.errors import explain
from dvlm.config.overrides import below_null, check_overrides, quoted_paths, sweep_points
from dvlm.config.roots import ROOTS
from dvlm.durable import DiskError, refusal
from dvlm.values import InputError


def run_verb(verb: str, function: Callable[[Any], Any]) -> None:
    """Compose `conf/<verb>.yaml` with the command line, then call `function` with the verb's root dataclass.

    A bad command line, an `InputError` or a full disk ends the process with code 2 and one message, no traceback.
    """
    if "--help" in sys.argv or "-h" in sys.argv:
        from dvlm.config.reference import help_text

        print(help_text(verb))
        return
    arguments = get_args_parser().parse_args()
    try:
        overrides = quoted_paths(arguments.overrides, ROOTS[verb], multirun=arguments.multirun)
        _check(verb, overrides, arguments)
    except InputError as error:
        _stop(error)
    replaced = dict(zip(arguments.overrides, overrides, strict=True))
    sys.argv[1:] = [replaced.get(argument, argument) for argument in sys.argv[1:]]

    def task(node: DictConfig) -> Any:
        try:
            return function(to_object(node))
        except InputError as error:
            if arguments.multirun:
                raise
            return _stop(error)
        except Exception as error:
            said = refusal(error)
            if said is None or arguments.multirun:
                raise
            return _stop(DiskError(f"{said}; free space, then give the same command again"))

    task.name = function.__name__  # type: ignore[attr-defined]  # by which a launcher finds it on another machine
    register()
    hydra.main(version_base="1.3", config_path=str(keys.CONF), config_name=verb)(task)()


def _check(verb: str, overrides: list[str], arguments: Namespace) -> None:
    """Raise InputError for what Hydra would report in its own words, or only in the middle of a sweep."""
    check_overrides(overrides, verb)
    if arguments.config_name or arguments.config_path or arguments.config_dir:
        return  # another tree of files: only Hydra knows it
    for point in sweep_points(overrides) if arguments.multirun else [overrides]:
        node = _composed(verb, point)
        if not arguments.cfg:  # a configuration may be printed with values missing
            to_object(node)


def _stop(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)


@cache
def register() -> None:
    """Tell Hydra the schema of each verb's root."""
    for verb, schema in ROOTS.items():
        ConfigStore.instance().store(name=f"{verb}_schema", node=schema)


def compose(verb: str, overrides: list[str]) -> Any:
    """The root dataclass of `verb` under `overrides`; raises InputError naming the key and the way out."""
    overrides = quoted_paths(overrides, ROOTS[verb], multirun=False)
    check_overrides(overrides, verb)
    return to_object(_composed(verb, overrides))


def _composed(verb: str, overrides: list[str]) -> DictConfig:
    register()
    try:
        with hydra.initialize_config_dir(str(keys.CONF), version_base="1.3"):
            node = hydra.compose(verb, overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise InputError(explain(error)) from error
    except AssertionError as error:
        # OmegaConf asserts when an override goes below a knob that is null.
        for override in below_null(overrides, ROOTS[verb]):
            above = override.partition("=")[0].rpartition(".")[0]
            raise InputError(f"'{override}': {above} is null here; leave it out, or set {above} first") from error
        raise
    with open_dict(node):
        own = node.pop("hydra")
    # Hydra saves its own part too: variables and shell lines of jobs.
    for part in ("job", "launcher"):
        secrets.check(f"hydra.{part}", OmegaConf.to_container(own[part]))
    return node


def to_object(node: DictConfig) -> Any:
    """The dataclass instances behind a composed node, each checked by its `__post_init__`."""
    schema: Any = OmegaConf.get_type(node)
    for key in sorted({str(key) for key in node} - {item.name for item in fields(schema)}):
        raise InputError(f"there is no config group '{key}'{keys.nearest_key(key, keys.groups())}")
    try:
        secrets.check("the configuration", OmegaConf.to_container(node))
        config = OmegaConf.to_object(node)
        secrets.check("the configuration", OmegaConf.to_container(node, resolve=True))
        return config
    except MissingMandatoryValue as error:
        key = keys.spelling(schema, str(error.full_key))
        raise InputError(f"{key} has no value; give {key}=<value>") from error
    except OmegaConfBaseException as error:
        raise InputError(explain(error)) from error
    except ValueError as error:
        raise InputError(str(error)) from error
