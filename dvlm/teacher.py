"""`python -m dvlm.teacher`: fills the teacher cache once, before the runs of a sweep that share it.

The hidden states depend on the teacher and on the data alone: not on beta, learning rate or tuner.
"""

from __future__ import annotations

import os
from dataclasses import replace

from dvlm.config import TeacherConfig
from dvlm.config.compose import run_verb
from dvlm.values import InputError


def main() -> None:
    """The command line."""
    run_verb("teacher", fill)


def fill(config: TeacherConfig) -> None:
    """Ask the teacher about every sample of the plan, of all epochs, and of the validation."""
    # Imported here: a typo in the configuration is reported before torch is loaded.
    import lightning as L

    from dvlm import assembly, process, teaching
    from dvlm.learning.cached import CachedTeacher
    from dvlm.learning.filler import Filler

    if not (config.rlhf.uses_teacher or config.rlhf.eval_kl):
        raise InputError("rlhf has no teacher: nothing to fill; add rlhf=gkd_forward or the experiment of the sweep")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    process.set_up(config)
    prepared = assembly.prepare(replace(config, rlhf=replace(config.rlhf, teacher_cache="read_write")))
    data = assembly.build_data(prepared)
    teacher = teaching.own_model(prepared, data)
    assert isinstance(teacher, CachedTeacher)
    teaching.check_room(prepared, teacher, data)
    filler = Filler(teacher)
    trainer = L.Trainer(
        accelerator=prepared.trainer.accelerator,
        devices=prepared.trainer.devices,
        precision=assembly.precision(prepared),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.predict(filler, datamodule=data, return_predictions=False)
    if trainer.is_global_zero:
        used = teacher.store.size() / teaching.GIB
        print(f"{filler.computed} samples computed, {filler.found} were there")
        print(f"{teacher.store.root}: {used:.3g} of {prepared.rlhf.teacher_cache_gib:g} GiB")
        print("use it with rlhf.teacher_cache=read_write")


if __name__ == "__main__":
    main()
