"""The configuration described by its own dataclasses: `--help`, and `python -m dvlm.config.reference` for the docs."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, fields
from itertools import takewhile
from typing import Any

from dvlm.config import keys
from dvlm.config.keys import groups_of, lists_of, options
from dvlm.config.roots import ROOTS
from dvlm.config.train import TrainConfig

EXAMPLES = {
    "train": (
        "python -m dvlm.train +experiment=gkd_forward",
        "python -m dvlm.train +experiment=gkd_forward data=jsonl data.train_jsonl=train.jsonl data.val_jsonl=val.jsonl",
        "python -m dvlm.train rlhf=gkd_forward rlhf.beta=0.2 optim.learning_rate=5e-5",
        "python -m dvlm.train -m +experiment=gkd_forward rlhf.beta=0.05,0.1,0.2",
    ),
    "validate": ("python -m dvlm.validate data=jsonl data.train_jsonl=train.jsonl",),
    "preview": (
        "python -m dvlm.preview",
        "python -m dvlm.preview data=jsonl data.train_jsonl=train.jsonl augmentation=conservative output=preview.html",
        "python -m dvlm.preview +experiment=gkd_forward model=qwen3_vl_4b epoch=2 samples=30",
    ),
    "caption": (
        "python -m dvlm.caption checkpoint=<run> input=photos output=captions.jsonl pictures=drawn",
        "python -m dvlm.caption checkpoint=<run> input=photo.jpg stream=true",
    ),
    "stage_a": (
        "python -m dvlm.stage_a checkpoint=<run> input=photos output=summaries.jsonl",
        "python -m dvlm.stage_a checkpoint=<run> input=<root of missions> mission=bbu_installation output=stage_a",
        "python -m dvlm.stage_a checkpoint=<run> input=<root> output=stage_a shard=2/4",
        "python -m dvlm.stage_a input=<root> output=stage_a merge=true",
    ),
    "stage_b": (
        "python -m dvlm.stage_b checkpoint=<model> input=stage_a output=verdicts.jsonl",
        "python -m dvlm.stage_b checkpoint=<model> input=summaries.jsonl group_by='(site\\d+)_' mission=labels",
    ),
    "teacher": (
        "python -m dvlm.teacher +experiment=gkd_forward",
        "python -m dvlm.train -m +experiment=gkd_forward rlhf.teacher_cache=read_write rlhf.beta=0.05,0.1,0.2",
    ),
    "evaluate": (
        "python -m dvlm.evaluate checkpoint=<run> data=jsonl data.val_jsonl=val.jsonl",
        "python -m dvlm.evaluate checkpoint=base base_model=<model> output=outputs/base",
        "python -m dvlm.evaluate checkpoint=<run> against=outputs/base free_too=true",
    ),
    "estimate": (
        "python -m dvlm.estimate +experiment=gkd_forward model=qwen3_vl_4b",
        "python -m dvlm.estimate model=qwen3_vl_8b trainer.gradient_checkpointing=true gpus=[8] output=estimate.json",
    ),
    "replay": ("python -m dvlm.replay <run>/dumps/step-000012",),
    "doctor": ("python -m dvlm.doctor", "python -m dvlm.doctor model=qwen3_vl_4b rlhf=gkd_forward"),
    "export": ("python -m dvlm.export checkpoint=<run or checkpoint> output=<directory>",),
    "convert": (
        "python -m dvlm.convert coco annotations=instances_train.json images=train output=train.jsonl",
        "python -m dvlm.convert lvis annotations=lvis_v1_train.json images=coco output=train.jsonl polygons=quad",
    ),
    "split": (
        "python -m dvlm.split input=all.jsonl output=split val=0.1 group_by=folder",
        r"python -m dvlm.split input=all.jsonl output=split group_by='site(\d+)_'",
    ),
    "report": (
        "python -m dvlm.report sweep=outputs/sweeps/<name>",
        "python -m dvlm.report sweep=outputs/sweeps/<name> baseline=outputs/sft/<run> max_kl=0.05",
        "python -m dvlm.report sweep=outputs/sweeps/<name> watch=true",
    ),
    "dashboard": ("python -m dvlm.dashboard project=dvlm",),
}


def help_text(verb: str) -> str:
    """What `python -m dvlm.<verb> --help` prints: groups with their options, root knobs, examples."""
    schema = ROOTS[verb]
    lines = [_first(schema), ""]
    if groups_of(schema):
        lines += ["Groups, chosen as group=option; knobs are set as group.knob=value:", ""]
    for name, group in groups_of(schema).items():
        lines += [f"  {name:13} {_first(group)}", *_choice_lines(name)]
    if issubclass(schema, TrainConfig):
        lines += [
            f"  {'experiment':13} A reported run: overrides only. Chosen with a plus.",
            *_choice_lines("experiment", "+"),
        ]
    lines += ["", "Knobs of the root:", ""]
    lines += [f"  {f'{_spelling(item)}={_default(item)}':28} {_meaning(item)}" for item in _leaves(schema)]
    lines += ["", "Every knob with unit and default: docs/configuration.md; the composed config: --cfg job"]
    return "\n".join([*lines, "", "Examples:", *(f"  {example}" for example in EXAMPLES[verb])])


def _choice_lines(group: str, plus: str = "") -> list[str]:
    return [f"  {'':13}   {f'{plus}{group}={option}':26} {_comment(group, option)}" for option in options(group)]


def markdown() -> str:
    """The whole of docs/configuration.md."""
    lines = [
        "# Configuration reference",
        "",
        "Made by `python -m dvlm.config.reference > docs/configuration.md`; a test keeps it true.",
        "Defaults are those of the dataclasses; group files may set others (`model=tiny` has a length and a learning",
        "rate of its own): `python -m dvlm.<verb> --cfg job` prints what a command line composes to.",
    ]
    seen: set[type] = set()
    for verb, schema in ROOTS.items():
        lines += ["", f"## `dvlm.{verb}`", "", _first(schema), "", *_table("", schema)]
        for name, group in groups_of(schema).items():
            if group not in seen:
                lines += ["", f"### `{name}`", "", _first(group), "", *_choices(name), *_table(f"{name}.", group)]
            seen.add(group)
    return "\n".join(lines) + "\n"


def _choices(group: str) -> list[str]:
    return [*(f"- `{group}={option}`: {_comment(group, option)}" for option in options(group)), ""]


def _table(prefix: str, schema: type) -> list[str]:
    rows = [_row(prefix, item) for item in _leaves(schema)]
    lines = ["| knob | default | unit | meaning |", "|---|---|---|---|", *rows]
    for name, nested in groups_of(schema).items():
        if prefix:
            lines += _table(f"{prefix}{name}.", nested)[2:]
    for name, element in lists_of(schema).items():
        lines += _table(f"{prefix}{name}[].", element)[2:]
    return lines


def _row(prefix: str, item: Field[Any]) -> str:
    meaning = _meaning(item).replace("|", "\\|")
    return f"| `{prefix}{_spelling(item)}` | `{_default(item)}` | {item.metadata.get('unit', '')} | {meaning} |"


def _leaves(schema: type) -> list[Field[Any]]:
    nested = groups_of(schema)
    return [item for item in fields(schema) if item.name not in nested or item.metadata.get("doc")]


def _spelling(item: Field[Any]) -> str:
    return str(item.metadata.get("spelled") or item.name)


def _default(item: Field[Any]) -> str:
    value = item.default if item.default_factory is MISSING else item.default_factory()
    special = {"None": "null", "True": "true", "False": "false", "???": "required"}
    return special.get(str(value), str(value))


def _meaning(item: Field[Any]) -> str:
    return str(item.metadata.get("doc", ""))


def _first(schema: type) -> str:
    return (inspect.getdoc(schema) or "").splitlines()[0]


def _comment(group: str, option: str) -> str:
    """The first sentence of the comment that opens an option's file."""
    lines = (keys.CONF / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
    opening = takewhile(lambda line: line.startswith("#"), lines)
    text = " ".join(line.lstrip("# ") for line in opening if "@package" not in line)
    return text.partition(". ")[0].rstrip(".") + "." if text else ""


if __name__ == "__main__":
    print(markdown(), end="")
