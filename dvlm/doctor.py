"""`python -m dvlm.doctor`: does training work on this machine, with these weights? Ends with code 1 if it does not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dvlm.config import DoctorConfig
from dvlm.config.compose import run_verb

if TYPE_CHECKING:
    from dvlm.diagnosis.finding import Finding


def main() -> None:
    """The command line."""
    run_verb("doctor", report)


def report(config: DoctorConfig) -> None:
    """Print versions, devices and findings; raise SystemExit(1) where one fails."""
    # Imported here: a typo in the configuration is reported before torch is loaded.
    import json
    from dataclasses import asdict
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from dvlm.data import writing
    from dvlm.diagnosis import machine

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    console, facts = Console(), machine.facts()
    for name, value in facts:
        console.print(f"{name:30}{value}", highlight=False, soft_wrap=True)
    findings = examine(config)
    table = Table(title=f"Findings on {config.model.model}", title_justify="left")
    for column in ("", "what", "measured", "allowed"):
        table.add_column(column)
    for each in findings:
        allowed = "-" if each.bound is None else f"{each.bound:.2g}"
        mark = "info" if each.bound is None else "pass" if each.passed else "FAIL"
        table.add_row(mark, each.name, f"{each.measured:.3g} {each.unit}".strip(), allowed)
    console.print(table)
    failed = [each for each in findings if not each.passed]
    for each in failed:
        console.print(f"{each.name}: {each.advice}", soft_wrap=True, highlight=False)
    if config.output:
        told = [asdict(each) | {"passed": each.passed} for each in findings]
        with writing.whole(Path(config.output), overwrite=True) as handle:
            json.dump({"machine": dict(facts), "findings": told}, handle, ensure_ascii=False, indent=2)
    if failed:
        raise SystemExit(1)


def examine(config: DoctorConfig) -> list[Finding]:
    """The equalities on two samples, then a few steps on the first pack of the plan."""
    import torch

    from dvlm import assembly, process
    from dvlm.costs.estimate import foretold, precision
    from dvlm.diagnosis import equalities, speed
    from dvlm.models import load, tuning

    process.set_up(config)
    run = assembly.prepare(config)
    data = assembly.build_data(run)
    assembly.check_samples(data)
    device = "cuda" if run.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    model = load.load_model(run.model, packing=True).to(device)  # type: ignore[arg-type]
    names = [name for pack in data.train_plan.packs for name in pack.samples][:2]
    samples = [data.train_line.sample(*name) for name in names]
    low, tokenizer = precision(run), data.encoder.processor.tokenizer
    with torch.autocast(device, low or torch.bfloat16, enabled=low is not None, cache_enabled=False):
        base = [equalities.logits(model, equalities.batch_of([sample], model)) for sample in samples]
        tuned = tuning.tune(model, run.tuner, seed=run.seed)
        equalities.moved(tuned.model, run.seed)
        dtype = run.model.torch_dtype
        found = equalities.check(
            equalities.Patient(tuned=tuned, samples=samples, base=base, tokenizer=tokenizer, dtype=dtype)
        )
    if run.trainer.gradient_checkpointing:
        tuned.model.activation_checkpointing_enable()
    module = assembly.build_module(run, tuned, data)
    batch = data.first_batch()
    expected = foretold(run, batch, cuda=device == "cuda")
    return found + speed.measure(module, batch.to(device), expected, low=low, steps=config.timed_steps)


if __name__ == "__main__":
    main()
