"""From a command line to a typed configuration, and errors that name the key and the nearest right one.

Everything here runs before torch is imported: a typo costs a fraction of a second.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from dvlm.config.knob import nearest
from dvlm.config.renamed import RENAMED
from dvlm.config.roots import ROOTS
from dvlm.values import InputError

CONF = Path(__file__).resolve().parents[2] / "conf"
ADDABLE = ("experiment", "sweep")


def run_verb(verb: str, function: Callable[[Any], Any]) -> None:
    """Compose `conf/<verb>.yaml` with the command line, then call `function` with the verb's root dataclass.

    A bad command line or an `InputError` ends the process with code 2 and one message, without a traceback.
    """
    if "--help" in sys.argv or "-h" in sys.argv:
        from dvlm.config.reference import help_text

        print(help_text(verb))
        return
    arguments = get_args_parser().parse_args()
    try:
        overrides = quoted_paths(arguments.overrides, ROOTS[verb], multirun=arguments.multirun)
        check_overrides(overrides, verb)
        if not arguments.multirun and arguments.run is not False:
            compose(verb, overrides)
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

    register()
    hydra.main(version_base="1.3", config_path=str(CONF), config_name=verb)(task)()


def _stop(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)


def register() -> None:
    """Tell Hydra the schema of each verb's root."""
    for verb, schema in ROOTS.items():
        ConfigStore.instance().store(name=f"{verb}_schema", node=schema)


def compose(verb: str, overrides: list[str]) -> Any:
    """The root dataclass of `verb` under `overrides`; raises InputError naming the key and the way out."""
    register()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            node = hydra.compose(verb, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error)) from error
    return to_object(node)


def to_object(node: DictConfig) -> Any:
    """The dataclass instances behind a composed node, each checked by its `__post_init__`."""
    try:
        return OmegaConf.to_object(node)
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} has no value; give {error.full_key}=<value>") from error
    except OmegaConfBaseException as error:
        raise InputError(explain(error)) from error
    except ValueError as error:
        raise InputError(str(error)) from error


def explain(error: BaseException) -> str:
    """One line for a composition error: where, which key, and the nearest right one."""
    where = ""
    cause: BaseException | None = error
    while cause is not None:
        inside = re.match(r"In '([^']+)'", str(cause))
        where = f" in conf/{inside.group(1)}.yaml" if inside and "/" in inside.group(1) else where
        if isinstance(cause, MissingConfigException):
            return _missing_choice(cause)
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            return _bad_key(cause, where)
        cause = cause.__cause__
    return " ".join(str(error).split())


def _missing_choice(error: MissingConfigException) -> str:
    group, _, choice = (error.missing_cfg_file or "?").rpartition("/")
    return f"{group or 'config'} has no option '{choice}'{nearest(choice, options(group))}"


def _bad_key(error: OmegaConfBaseException, where: str) -> str:
    key = str(error.full_key)
    parent, schema = key.rpartition(".")[0], error.object_type
    if "not in" in str(error) and is_dataclass(schema):
        if key in RENAMED:
            return f"'{key}'{where} is now '{RENAMED[key]}'"
        known = [f"{parent}.{f.name}" if parent else f.name for f in fields(schema)]
        return f"unknown key '{key}'{where}{nearest(key, known)}"
    return f"{key}{where}: {str(error).splitlines()[0]}"


def options(group: str) -> list[str]:
    """The choices of a config group: the YAML files of its directory."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def knob_paths(schema: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every (dotted key, dataclass field) of a schema, nested dataclasses entered."""
    hints = get_type_hints(schema)
    for item in fields(schema):
        key = f"{prefix}{item.name}"
        yield key, item
        nested = next((part for part in (hints[item.name], *_arms(hints[item.name])) if is_dataclass(part)), None)
        if nested is not None and isinstance(nested, type):
            yield from knob_paths(nested, f"{key}.")


def _arms(hint: Any) -> tuple[Any, ...]:
    return tuple(getattr(hint, "__args__", ())) if getattr(hint, "__origin__", None) is not list else ()


def quoted_paths(overrides: list[str], schema: type, *, multirun: bool) -> list[str]:
    """Quote the values of path knobs, so that they may hold Chinese, spaces, `=`, `,` and parentheses.

    Under multirun a comma separates the values of a sweep, so there a path with commas needs quotes of its own.
    """
    paths = {key for key, item in knob_paths(schema) if item.metadata.get("path")}
    return [_quoted(override, paths, multirun) for override in overrides]


def _quoted(override: str, paths: set[str], multirun: bool) -> str:
    key, equals, value = override.partition("=")
    plain = value[:1] in ("'", '"') or value in ("null", "???", "") or (multirun and "," in value)
    if key not in paths or not equals or plain:
        return override
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    trailing = re.search(r"\\*$", escaped)
    return f"{key}='{escaped}{trailing.group() if trailing else ''}'"


def check_overrides(overrides: list[str], verb: str) -> None:
    """Raise InputError for an override whose key does not exist, or that adds one."""
    known = {key for key, _ in knob_paths(ROOTS[verb])}
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except OverrideParseException as error:
        raise InputError(f"cannot read override '{error.override}': {' '.join(str(error).split())}") from error
    for override in parsed:
        _check_override(override, known)


def _check_override(override: Override, known: set[str]) -> None:
    key = override.key_or_group
    if key.startswith("hydra"):
        return
    if override.is_add() or override.is_force_add():
        if key not in ADDABLE:
            raise InputError(f"'{override.input_line}': '+' is for {' and '.join(ADDABLE)} only; drop the '+'")
        return
    if key in ADDABLE:
        raise InputError(f"'{override.input_line}' needs a plus: +{override.input_line}")
    if key in RENAMED:
        raise InputError(f"'{key}' is now '{RENAMED[key]}'")
    free = any(key.startswith(f"{field}.") for field in ("augmentation.ops",))
    if key not in known and not free:
        raise InputError(f"unknown key '{key}'{nearest(key, known)}")
