"""The configuration described from its own dataclasses: `--help`, and `python -m dvlm.config.reference` for the docs."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints

from dvlm.config.compose import CONF, options
from dvlm.config.roots import ROOTS

EXAMPLES = {
    "train": (
        "python -m dvlm.train +experiment=gkd_forward",
        "python -m dvlm.train +experiment=gkd_forward data=jsonl data.train_jsonl=train.jsonl data.val_jsonl=val.jsonl",
        "python -m dvlm.train rlhf=gkd_forward rlhf.beta=0.2 optim.learning_rate=5e-5",
        "python -m dvlm.train -m +experiment=gkd_forward rlhf.beta=0.05,0.1,0.2",
    ),
    "validate": ("python -m dvlm.validate data=jsonl data.train_jsonl=train.jsonl",),
    "export": ("python -m dvlm.export checkpoint=<run or checkpoint> output=<directory>",),
}


def help_text(verb: str) -> str:
    """What `python -m dvlm.<verb> --help` prints: groups with their options, root knobs, examples."""
    schema = ROOTS[verb]
    lines = [f"{_first(schema)}", "", "Groups, chosen as group=option; knobs are set as group.knob=value:", ""]
    for name, group in _groups(schema):
        lines.append(f"  {name:13} {_first(group)}")
        lines += [f"  {'':13}   {name}={option:18} {_comment(name, option)}" for option in options(name)]
    if verb == "train":
        lines.append(f"  {'experiment':13} A reported run: overrides only. Chosen with a plus: +experiment=<option>")
        lines += [f"  {'':13}   +experiment={option:12} {_comment('experiment', option)}" for option in options("experiment")]
    lines += ["", "Knobs of the root:", ""]
    lines += [f"  {item.name}={_default(item)}  {_meaning(item)}" for item in _leaves(schema)]
    lines += ["", "Every knob with unit and default: docs/configuration.md; the composed config: --cfg job", "", "Examples:"]
    return "\n".join([*lines, *(f"  {example}" for example in EXAMPLES[verb])])


def markdown() -> str:
    """The whole of docs/configuration.md."""
    lines = [
        "# Configuration reference",
        "",
        "Made by `python -m dvlm.config.reference > docs/configuration.md`; a test keeps it true.",
        "`python -m dvlm.<verb> --cfg job` prints a composed configuration.",
    ]
    seen: set[type] = set()
    for verb, schema in ROOTS.items():
        lines += ["", f"## `dvlm.{verb}`", "", _first(schema), "", *_table("", schema)]
        for name, group in _groups(schema):
            if group not in seen:
                lines += ["", f"### `{name}`", "", _first(group), "", *_choices(name), *_table(f"{name}.", group)]
            seen.add(group)
    return "\n".join(lines) + "\n"


def _choices(group: str) -> list[str]:
    return [*(f"- `{group}={option}`: {_comment(group, option)}" for option in options(group)), ""]


def _table(prefix: str, schema: type) -> list[str]:
    rows = [f"| `{prefix}{i.name}` | {_default(i)} | {i.metadata.get('unit', '')} | {_meaning(i)} |" for i in _leaves(schema)]
    lines = ["| knob | default | unit | meaning |", "|---|---|---|---|", *rows]
    for name, nested in _groups(schema):
        if prefix:
            lines += _table(f"{prefix}{name}.", nested)[2:]
    return lines


def _groups(schema: type) -> list[tuple[str, type]]:
    hints = get_type_hints(schema)
    pairs = [(item.name, _dataclass_in(hints[item.name])) for item in fields(schema)]
    return [(name, group) for name, group in pairs if group is not None]


def _dataclass_in(hint: Any) -> type | None:
    arms = (hint, *getattr(hint, "__args__", ())) if getattr(hint, "__origin__", None) is not list else ()
    return next((arm for arm in arms if is_dataclass(arm) and isinstance(arm, type)), None)


def _leaves(schema: type) -> list[Field[Any]]:
    nested = {name for name, _ in _groups(schema)}
    return [item for item in fields(schema) if item.name not in nested or item.metadata.get("doc")]


def _default(item: Field[Any]) -> str:
    value = item.default if item.default is not MISSING else item.default_factory()  # type: ignore[misc]
    special = {"None": "null", "True": "true", "False": "false", "???": "required"}
    return f"`{special.get(str(value), value)}`"


def _meaning(item: Field[Any]) -> str:
    return str(item.metadata.get("doc", "")).replace("|", "\\|")


def _first(schema: type) -> str:
    return (inspect.getdoc(schema) or "").splitlines()[0]


def _comment(group: str, option: str) -> str:
    lines = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ") for line in lines if line.startswith("#") and "@package" not in line), "")


if __name__ == "__main__":
    print(markdown(), end="")
