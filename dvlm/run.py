"""A run's directory: what it was started with, and the table and lines that a person reads."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dvlm import durable
from dvlm.config import RlhfConfig, TrainConfig
from dvlm.data.digest import sha256
from dvlm.data.files import record_files
from dvlm.data.writing import whole
from dvlm.learning.optim import tower_rates
from dvlm.learning.origin import Origin
from dvlm.models import kinds, towers
from dvlm.models.tuning import Tuned
from dvlm.sweeps.status import Status, now, replace_json
from dvlm.values import BadRecord

PACKAGES = (
    "dvlm",
    "torch",
    "transformers",
    "peft",
    "lightning",
    "hydra-core",
    "albumentations",
    "opencv-python-headless",
)
CONFIG, RUN, BAD = "config.yaml", "run.json", "bad_records.jsonl"


def describe(directory: Path, config: TrainConfig, facts: dict[str, Any]) -> None:
    """Write `config.yaml` (resolved) and `run.json` (versions, git state, data fingerprints, host, command)."""
    write_config(directory, config)
    run = {
        "command": [sys.executable, "-m", "dvlm.train", *sys.argv[1:]],
        "started": now(),
        "restarts": status.restarts if (status := Status.read(directory)) else 0,
        "host": platform.node(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "git": git_state(),
        "data": {file: sha256(Path(file)) for file in record_files(config.data)},
        **facts,
    }
    replace_json(directory / RUN, run)


def write_bad(directory: Path, bad: Sequence[BadRecord]) -> None:
    """Write `bad_records.jsonl`: file, line and reasons of each record that is left out; no file where none is."""
    if not bad:
        (directory / BAD).unlink(missing_ok=True)
        return
    with whole(directory / BAD, overwrite=True) as out:
        for each in bad:
            row = {"file": str(each.file), "line": each.line, "reasons": each.reasons}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_config(directory: Path, config: TrainConfig) -> None:
    """Write `config.yaml`, which `read_config` reads."""
    from omegaconf import OmegaConf

    durable.replace_text(directory / CONFIG, OmegaConf.to_yaml(OmegaConf.structured(config)))


def read_config(directory: Path) -> TrainConfig | None:
    """The configuration that a run directory was started with; None where it is not there, or is of another version."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    file = directory / CONFIG
    if not file.is_file():
        return None
    try:
        merged: Any = OmegaConf.merge(OmegaConf.structured(TrainConfig), OmegaConf.load(file))
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except (OmegaConfBaseException, ValueError):
        return None


def git_state() -> dict[str, Any]:
    """Commit of the code, and whether it was changed since; both None outside a repository."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str | None:
        try:
            out = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return out.stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def tower_table(tuned: Tuned, config: TrainConfig) -> Table:
    """Per tower: parameters, how many train, through what, and at which peak learning rate."""
    table = Table(title="What trains")
    for column, justify in (("tower", "left"), ("parameters", "right"), ("trainable", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("how")
    table.add_column("learning rate", justify="right")
    rates = tower_rates(config.optim)
    for tower, rows in towers.parameters(tuned.model).items():
        training = [(name, p) for name, p in rows if p.requires_grad]
        base = sum(p.numel() for name, p in rows if not (kinds.is_adapter(name) or ".modules_to_save." in name))
        count = sum(p.numel() for _, p in training)
        table.add_row(
            tower, f"{base:,}", f"{count:,}", how(training, tuned, config), f"{rates[tower]:g}" if training else "-"
        )
    return table


def how(training: list[tuple[str, Any]], tuned: Tuned, config: TrainConfig) -> str:
    """`frozen`, `full`, `lora r=32 on 28 layers`, or a mixture."""
    if not training:
        return "frozen"
    if not tuned.is_adapter:
        return "full"
    adapted = {kinds.PARAMETER.split(name)[0] for name, _ in training if kinds.is_adapter(name)}
    parts = [f"{config.tuner.label} on {len(adapted)} layers"] if adapted else []
    return " + ".join(parts + (["full"] if any(".modules_to_save." in name for name, _ in training) else []))


def announce(console: Console, tuned: Tuned, config: TrainConfig, plan: dict[str, float], steps: int) -> None:
    """The start-up table, the effective batch, and the plan of which `steps` steps are run."""
    console.print(tower_table(tuned, config))
    packs, planned = config.data.packs_per_step, plan["steps"]
    console.print(
        f"{steps} of {planned} planned steps; effective batch: packs {packs}, samples {plan['samples'] / planned:.1f}, "
        f"supervised tokens {plan['supervised_tokens'] / planned:.0f}",
        soft_wrap=True,
    )
    console.print(
        f"plan: {plan['samples']} samples, {plan['tokens']:,} tokens, packs filled to {plan['efficiency']:.1%}, "
        f"{plan['dropped']} dropped",
        soft_wrap=True,
    )


def name_origins(console: Console, shares: Mapping[Origin, int], rlhf: RlhfConfig) -> None:
    """Whose answers the steps learn from, where it is not the data's alone; nothing for plain SFT and GKD."""
    if not rlhf.samples:
        return
    steps = sum(shares.values())
    parts = ", ".join(f"{count / steps:.0%} {origin} ({count})" for origin, count in shares.items())
    console.print(f"answers by step: {parts}", soft_wrap=True)
    if rlhf.seq_kd:
        console.print(
            f"warning: no step learns from the answers of the data; sft_alpha {rlhf.sft_alpha:g} weighs those of the "
            "teacher. seq_kd=false brings the data's back",
            soft_wrap=True,
        )


def name_dropped(console: Console, places: list[str]) -> None:
    """The turns that `data.truncation=drop` left out: the first few; all of them are in `run.json`."""
    if places:
        shown = "; ".join(places[:3])
        console.print(f"{len(places)} turns are longer than global_max_length and left out: {shown}", soft_wrap=True)


def name_start(console: Console, tuned: Tuned, not_as_teacher: str | None) -> None:
    """Where the weights come from and what starts fresh (all of it is in `run.json`), and why the student does not
    start as its teacher."""
    if tuned.origin:
        fresh = f"{len(tuned.fresh)} weights that it lacks start fresh" if tuned.fresh else "nothing starts fresh"
        shown = f": {', '.join(tuned.fresh[:3])}" + (", ..." if len(tuned.fresh) > 3 else "") if tuned.fresh else ""
        console.print(f"starts from {tuned.origin}; {fresh}{shown}", soft_wrap=True, highlight=False, markup=False)
    if not_as_teacher:
        console.print(f"kl_loss at the start is logged, not checked: {not_as_teacher}", soft_wrap=True)


def closing(console: Console, directory: Path, first: float | None, last: float | None) -> None:
    """Where everything is, and what to run next."""
    if first is not None and last is not None:
        console.print(f"eval/sft_loss {first:.4f} -> {last:.4f}")
    places = {"run": directory, "checkpoint": directory / "checkpoints", "pictures": directory / "samples"}
    for name, place in places.items():
        if place.exists():
            console.print(f"{name:11}{place}", soft_wrap=True, highlight=False)
    command = (
        f"python -m dvlm.export checkpoint={shlex.quote(str(directory))} output={shlex.quote(f'{directory}/merged')}"
    )
    console.print(f"{'next':11}{command}", soft_wrap=True, highlight=False, markup=False)
