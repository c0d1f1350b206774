"""The teacher of a run: which model it is, what it shares with the student, and where its states are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import distributed

from dvlm import checks
from dvlm.config import TrainConfig
from dvlm.data.datamodule import CaptionDataModule
from dvlm.learning import cached
from dvlm.learning.cached import CachedTeacher
from dvlm.learning.state_store import StateStore
from dvlm.learning.teacher import AdaptersOff, FrozenModel, Teacher
from dvlm.models import forward, load
from dvlm.models.prefix import Reach
from dvlm.models.tuning import Tuned
from dvlm.scale import strategies
from dvlm.values import InputError

FOLDER = "teacher"  # of the cache directory
GIB = 2**30


def build_teacher(config: TrainConfig, tuned: Tuned, data: CaptionDataModule) -> Teacher:
    """The student with its adapters off where the teacher is its base and that gives the base, else a frozen model;
    either may be cached."""
    base = forward.core(tuned.model).config._name_or_path
    # A stage that left a whole model is the base of the adapters, and not of the run.
    if config.rlhf.teacher_model == "base" and tuned.keeps_base and base == config.model.model:
        # Where weights are spread over ranks, all of them run the teacher or none.
        agree = on_every_rank if config.trainer.strategy in strategies.SPREAD else None
        return _cached(config, AdaptersOff(tuned.model), base, agree)
    return own_model(config, data, student=base)


def own_model(config: TrainConfig, data: CaptionDataModule, *, student: str | None = None) -> Teacher:
    """The teacher as a model of its own, which shares its frozen part with a student that was loaded from `student`.

    Raises HealthError for another vocabulary or chat template.
    """
    path = config.rlhf.teacher_model
    if path == "base":
        path = config.model.model
    else:
        theirs = load.load_processor(path)
        checks.check_vocabulary(data.encoder.processor.tokenizer, theirs.tokenizer)
        checks.check_template(data.encoder.processor, theirs)
    model = load.load_model(replace(config.model, model=path), packing=config.data.packing)
    offload = config.rlhf.teacher_offload == "cpu"
    return _cached(config, FrozenModel(model, shares=path == student, offload=offload), path)


def on_every_rank(here: bool) -> bool:
    """Whether it is so on all ranks; each of them has to ask."""
    answers: list[bool | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(answers, here)
    return all(answers)


def _cached(
    config: TrainConfig, teacher: AdaptersOff | FrozenModel, path: str, agree: Callable[[bool], bool] | None = None
) -> Teacher:
    if config.rlhf.teacher_cache == "off":
        return teacher
    store = StateStore(Path(config.cache_dir).resolve() / FOLDER, int(config.rlhf.teacher_cache_gib * GIB))
    return CachedTeacher(teacher, store, cached.identity(teacher.model, path), agree)


def needed(teacher: CachedTeacher, data: CaptionDataModule) -> int:
    """The bytes of the states of every supervised token of the plan and of the validation."""
    weight = forward.core(teacher.teacher.model).lm_head.weight
    plans = [plan for plan in (data.train_plan, data.val_plan) if plan]
    tokens = sum(pack.supervised for plan in plans for pack in plan.packs)
    return tokens * weight.shape[1] * weight.element_size()


def check_room(config: TrainConfig, teacher: CachedTeacher, data: CaptionDataModule) -> None:
    """Raise InputError where the states do not fit: each would be evicted before it is read again."""
    wanted = needed(teacher, data) / GIB
    if wanted > config.rlhf.teacher_cache_gib:
        raise InputError(
            f"rlhf.teacher_cache_gib is {config.rlhf.teacher_cache_gib:g}, but the states of this plan take "
            f"{wanted:.3g} GiB; raise it, or train with rlhf.teacher_cache=off"
        )


def account(config: TrainConfig, teacher: Teacher, reach: Reach, data: CaptionDataModule) -> str:
    """One line: who the teacher is, what is computed once for both, and how large its cache is."""
    inner = teacher.teacher if isinstance(teacher, CachedTeacher) else teacher
    own = "adapters off" if isinstance(inner, AdaptersOff) else "a model of its own"
    shared = reach if teacher.shares else "nothing"
    line = f"teacher: {config.rlhf.teacher_model} ({own}); computed once for student and teacher: {shared}"
    if isinstance(teacher, CachedTeacher):
        line += f"; cache: {needed(teacher, data) / GIB:.3g} of {config.rlhf.teacher_cache_gib:g} GiB"
    return line
