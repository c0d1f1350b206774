"""One line for a configuration error: which key, where it is written, and the nearest right one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from hydra.errors import MissingConfigException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import MarkedYAMLError

from dvlm.config import keys
from dvlm.config.keys import groups, nearest_key
from dvlm.config.knob import nearest
from dvlm.config.renamed import new_name
from dvlm.config.roots import ROOTS


def explain(error: BaseException) -> str:
    """One line for an error of Hydra, OmegaConf or YAML."""
    causes = list(_causes(error))
    where = next(filter(None, map(_where, causes)), "")
    for cause in causes:
        if isinstance(cause, MissingConfigException):
            return _missing_choice(cause, where)
        if isinstance(cause, MarkedYAMLError) and cause.problem_mark is not None:
            return f"{cause.problem_mark.name}:{cause.problem_mark.line + 1}: {cause.problem}"
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            return _bad_key(cause, where)
    return _bad_group(str(error), where) or _choice_as_value(str(error), where) or one_line(error)


def one_line(error: BaseException) -> str:
    """The message of an error without its line breaks."""
    return " ".join(str(error).split())


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that led to it. (Hydra replaces an error without naming it as the cause.)"""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _where(error: BaseException) -> str:
    file = re.match(r"In '([^']+)': ", str(error))
    override = re.match(r"Error merging override (.+)", str(error))
    if file and (keys.CONF / f"{file.group(1)}.yaml").is_file():
        return f" in conf/{file.group(1)}.yaml"
    return f" in '{override.group(1)}'" if override else ""


def _missing_choice(error: MissingConfigException, where: str) -> str:
    """An option that its group lacks, or a group that does not exist. An option may come from the command line, while
    Hydra says `In 'train'`: only the file of a group is worth naming."""
    group, _, choice = (error.missing_cfg_file or "?").rpartition("/")
    where = where if "/" in where.removeprefix(" in conf/") else ""
    if not error.options:
        return f"there is no config group '{group or choice}'{where}{nearest(group or choice, groups())}"
    return f"{group} has no option '{choice}'{where}{nearest(choice, error.options)}"


def _bad_group(message: str, where: str) -> str | None:
    """A group that a defaults list overrides and that is not there (`override /rlfh: none`), or names a second time."""
    twice = re.search(r"Multiple values for (\w+)|(\w+) appears more than once", message)
    if twice:
        group = twice.group(1) or twice.group(2)
        return f"{group} is chosen twice{where}; a defaults list chooses anew with `override /{group}`"
    found = re.search(r"Could not override '(?:[^']*/)?([^'@]+)[^']*'", message)
    if found is None:
        return None
    group = found.group(1)
    if group in groups():
        return f"`override {group}`{where} must be `override /{group}`, with a slash"
    return f"there is no config group '{group}' to override{where}{nearest(group, groups())}"


def _choice_as_value(message: str, where: str) -> str | None:
    """An option that a file gives to a group as if it were a value, such as `rlhf: gkd_forward`."""
    found = re.search(r"str is not a subclass of (\w+)\. value: (\S+)", message)
    group = _group_of(found.group(1)) if found else None
    if found is None or group is None:
        return None
    option = f"{group}: {found.group(2)}"
    return f"'{option}'{where}: options are chosen in the defaults list: `- override /{option}`"


def _group_of(schema: str) -> str | None:
    hints = {key: hint for root in ROOTS.values() for key, hint in get_type_hints(root).items()}
    return next((key for key, hint in hints.items() if getattr(hint, "__name__", "") == schema), None)


def _bad_key(error: OmegaConfBaseException, where: str) -> str:
    key, schema = str(error.full_key), error.object_type
    group, _, name = key.rpartition(".")
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and is_dataclass(schema):
        if not group and f" in conf/{name}/" in where:
            return f"the first line{where} must be `# @package _global_`, so that its keys are not those of '{name}'"
        if new := new_name(key):
            return f"'{key}'{where} is now {new}"
        return f"unknown key '{key}'{where}{nearest_key(key, [f'{group}.{f.name}'.strip('.') for f in fields(schema)])}"
    return f"{key}{where}: {str(error).splitlines()[0]}{_expected(schema, name)}"


def _expected(schema: Any, name: str) -> str:
    hint = get_type_hints(schema).get(name) if is_dataclass(schema) else None
    readable = hint.__name__ if isinstance(hint, type) else str(hint).replace("|", "or").replace("None", "null")
    return f"; expected {readable}" if hint not in (None, Any) else ""
