"""`python -m dvlm.estimate`: parameters, memory, FLOPs and time of a run before it runs, without weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dvlm.config import EstimateConfig
from dvlm.config.compose import run_verb

if TYPE_CHECKING:
    from dvlm.costs.estimate import Estimate
    from dvlm.costs.work import Load


def main() -> None:
    """The command line."""
    run_verb("estimate", report)


def report(config: EstimateConfig) -> None:
    """Print the tables, and write `output` where it is asked for."""
    # Imported here: a typo in the configuration is reported before torch is loaded.
    from rich.console import Console

    from dvlm.costs.table import tables
    from dvlm.data import writing

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    found = estimate(config)
    console = Console()
    for table in tables(found):
        console.print(table, soft_wrap=True)
    if config.output:
        with writing.whole(Path(config.output), overwrite=True) as handle:
            handle.write(found.json())
        print(f"written to {config.output}")


def estimate(config: EstimateConfig) -> Estimate:
    """The figures of `config`."""
    from dvlm import process
    from dvlm.costs.estimate import build

    process.quiet_libraries()
    return build(config, load_of(config), gpus=config.gpus, peak=config.peak_tflops * 1e12, mfu=config.mfu)


def load_of(config: EstimateConfig) -> Load:
    """The packs of the run: planned where the model is a directory, and with it a processor; else assumed."""
    from dvlm import assembly
    from dvlm.costs.work import Load, Work
    from dvlm.data.files import train_records
    from dvlm.models import load, published

    if published.config(config.model.model) is None:
        data = assembly.build_data(assembly.prepare(config))
        plan = data.train_plan
        longest = max(range(len(plan.packs)), key=lambda index: plan.packs[index].tokens)
        config.model.model = load.resolve(config.model, Path(config.cache_dir)).model
        return Load(
            pack=Work.of(data.batch(longest)),
            tokens=sum(pack.tokens for pack in plan.packs),
            packs_per_step=plan.packs_per_step,
            steps=plan.steps,
            counted=True,
        )
    records = config.records or train_records(config.data)
    pack = Work.assumed(
        config.global_max_length,
        sample=config.sample_tokens,
        image_share=config.image_share,
        supervised_share=config.supervised_share,
        per_turn=config.data.images_per_user_turn,
    )
    turns = -(-records // config.data.images_per_user_turn) * config.trainer.num_train_epochs
    packs = -(-turns * config.sample_tokens // config.global_max_length)
    return Load(
        pack=pack,
        tokens=turns * config.sample_tokens,
        packs_per_step=config.data.packs_per_step,
        steps=-(-packs // config.data.packs_per_step),
        counted=False,
    )


if __name__ == "__main__":
    main()
