"""`python -m dvlm.replay <dump>`: run a step that a guard kept once more, and say whether the same happens."""

from __future__ import annotations

import os
import sys
from math import isclose, isfinite
from pathlib import Path

from dvlm.config import ReplayConfig
from dvlm.config.compose import run_verb

TOLERANCE = 1e-3  # relative: another number of ranks or threads rounds otherwise


def main() -> None:
    """The command line, whose first word may be the dump."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first and "=" not in first and not first.startswith("-"):
        sys.argv[1] = f"dump={first}"
    run_verb("replay", replay)


def replay(config: ReplayConfig) -> bool:
    """Print then and now side by side; returns whether the same happened."""
    from dvlm.dumps import Dump

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    dump = Dump.read(Path(config.dump))
    now = again(config)
    print(f"step {dump.step + 1}: {dump.what}")
    print(f"{'metric':36}{'then':>14}{'now':>14}")
    names = [name for name in dump.values if name.startswith("train/")]
    for name in names:
        print(f"{name:36}{dump.values[name]:14.6g}{now.get(name, float('nan')):14.6g}")
    same = all(alike(dump.values[name], now.get(name, float("nan"))) for name in names)
    if same:
        print("the same happens again: it is in these weights and records")
    else:
        print("it does not happen again: look at what changed since (data, versions), or at the machine")
    return same


def alike(then: float, now: float) -> bool:
    """Equal to rounding; two numbers that are not finite are alike."""
    if not isfinite(then):
        return not isfinite(now)
    return isclose(then, now, rel_tol=TOLERANCE, abs_tol=1e-6)


def again(config: ReplayConfig) -> dict[str, float]:
    """What the step measures now."""
    import lightning as L

    from dvlm import assembly, process
    from dvlm.callbacks.again import Measure, OneStep
    from dvlm.data.datamodule import PackDataset
    from dvlm.dumps import Dump

    dump = Dump.read(Path(config.dump))
    process.set_up(dump.config)
    prepared = assembly.prepare(dump.config)
    data = assembly.build_data(prepared)
    module = assembly.build_module(prepared, assembly.build_model(prepared), data)
    module.load_state_dict(dump.weights, strict=False)
    measure, per_step = Measure(), data.accumulation
    trainer = L.Trainer(
        accelerator=prepared.trainer.accelerator,
        devices=1,
        precision=assembly.precision(prepared),
        max_steps=1,
        accumulate_grad_batches=per_step,
        callbacks=[measure],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    packs = PackDataset(data.train_line, data.train_plan, packing=prepared.data.packing)
    trainer.fit(module, datamodule=OneStep(packs, range(dump.step * per_step, (dump.step + 1) * per_step)))
    return measure.values


if __name__ == "__main__":
    main()
