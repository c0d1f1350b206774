"""The overrides of a command line: quoted for Hydra, and checked key by key before anything is composed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import OverrideParseException

from dvlm.config import keys, secrets
from dvlm.config.errors import one_line
from dvlm.config.knob import nearest
from dvlm.config.renamed import new_name
from dvlm.config.roots import ROOTS
from dvlm.values import InputError

ADDABLE = ("experiment", "sweep")
HYDRA_PATHS = ("hydra.run.dir", "hydra.sweep.dir")
OP = re.compile(r"augmentation\.ops\.\d+(\.name|\.params|\.params\.\w+)?")
OP_EXAMPLE = "augmentation.ops.0.params.prob"
OP_PARAM = re.compile(r"augmentation\.ops\.\d+\.params\.\w+=")
QUOTED = re.compile(r"'(\\.|[^'\\])*'|\"(\\.|[^\"\\])*\"", re.DOTALL)


def quoted_paths(overrides: list[str], schema: type, *, multirun: bool) -> list[str]:
    """Quote the values of path and text knobs, so that they may hold Chinese, spaces, `=`, `,`, brackets and quotes.

    Left as they are: a value in quotes of its own, `null`, and an interpolation `${...}` inside a value. Under multirun
    a comma separates the values of a sweep, so a path with commas needs quotes of its own there, and so do the values
    of a list `[...]` where a knob takes one. A knob that is spelled otherwise on the command line gets its name.
    """
    overrides = [_named(override, schema) for override in overrides]
    marks = {key: item.metadata for key, item in keys.knob_paths(schema) if item.metadata.get("text")}
    texts = dict.fromkeys(HYDRA_PATHS, False) | {key: bool(found.get("many")) for key, found in marks.items()}
    return [_quoted(override, texts, multirun) for override in overrides]


def _named(override: str, schema: type) -> str:
    spelled, equals, value = override.partition("=")
    name = next((item.name for item in fields(schema) if item.metadata.get("spelled") == spelled != ""), None)
    return f"{name}{equals}{value}" if name and equals else override


def _quoted(override: str, texts: Mapping[str, bool], multirun: bool) -> str:
    if OP_PARAM.match(override):
        # An op's parameter that its file leaves at the default; the op itself knows its parameters, and checks them.
        return f"++{override}"
    key, equals, value = override.partition("=")
    plain = QUOTED.fullmatch(value) or value in ("null", "???", "") or (multirun and "," in value)
    if key not in texts or not equals or plain or (texts[key] and value.startswith("[")):
        return override
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    trailing = re.search(r"\\*$", escaped)
    return f"{key}='{escaped}{trailing.group() if trailing else ''}'"


def check_overrides(overrides: list[str], verb: str) -> None:
    """Raise InputError for an override that cannot be read, whose key does not exist, or that adds or removes one."""
    for key, _, value in (override.partition("=") for override in overrides):
        secrets.check_text(key, value)
        secrets.check_text(key, f"{key}={value}")
    known = [key for key, _ in keys.knob_paths(ROOTS[verb])]
    chosen = {*ADDABLE, *keys.groups_of(ROOTS[verb])}
    for override in parsed(overrides):
        _check_override(override, known)
        if override.key_or_group in chosen:
            _check_choice(override)


def parsed(overrides: list[str]) -> list[Override]:
    """Hydra's reading of the overrides; raises InputError for one that it cannot read."""
    try:
        return OverridesParser.create().parse_overrides(overrides)
    except OverrideParseException as error:
        key, equals, value = error.override.partition("=")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        way = f"; with quotes it is text: {key}='\"{quoted}\"'" if equals else "; expected <key>=<value>"
        raise InputError(f"cannot read override '{error.override}': {one_line(error)}{way}") from error


def _check_override(override: Override, known: list[str]) -> None:
    key, line = override.key_or_group, override.input_line
    if key.startswith("hydra") or (OP.fullmatch(key) and not override.is_delete()):
        return
    if override.is_delete():
        raise InputError(f"'{line}': nothing can be removed with '~'; choose another option or value of {key}")
    if override.is_add() or override.is_force_add():
        if key not in ADDABLE or override.is_force_add():
            raise InputError(f"'{line}': '+' is for {' and '.join(f'+{name}' for name in ADDABLE)} only; drop it")
    elif key in ADDABLE:
        raise InputError(f"'{line}' needs a plus: +{line}")
    elif new := new_name(key):
        raise InputError(f"'{key}' is now {new}")
    elif key.startswith("augmentation.ops."):
        raise InputError(f"unknown key '{key}'; an op has the keys name and params, such as {OP_EXAMPLE}")
    elif key not in known:
        raise InputError(f"unknown key '{key}'{keys.nearest_key(key, known)}")


def _check_choice(override: Override) -> None:
    """A group takes the name of an option. (`data={packing: false}` sets knobs of the group as it is.)"""
    group, line = override.key_or_group, override.input_line
    value = None if override.is_sweep_override() else override.value()
    named = override.is_sweep_override() or (value and isinstance(value, str | dict))
    if not named or override.package is not None:
        raise InputError(f"'{line}': expected one option of {group}{nearest('', keys.options(group))}")
    if isinstance(value, str) and group == "model" and "/" in value:
        raise InputError(f"'{line}': a group takes an option; a path or hub id is a knob: model.model={value}")


def below_null(overrides: list[str], schema: type) -> Iterator[str]:
    """The overrides that go below a knob whose default is null, such as `data.demo.train`."""
    known = dict(keys.knob_paths(schema))
    for override in overrides:
        above = override.partition("=")[0].rpartition(".")[0]
        if above in known and known[above].default is None:
            yield override


def sweep_points(overrides: list[str]) -> Iterator[list[str]]:
    """Command lines that try every value of every sweep once, the other sweeps at their first value.

    Sweeps without a list of values (an interval, a glob) are left out.
    """
    values = [each for each in map(_values, parsed(overrides)) if each]
    first = [each[0] for each in values]
    yield first
    for place, each in enumerate(values):
        for value in each[1:]:
            yield [*first[:place], value, *first[place + 1 :]]


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep() or override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return []
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
