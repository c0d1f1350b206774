"""Who writes the answers that a run learns from, beside the data: built from the configuration, and checked."""

from __future__ import annotations

from functools import partial

from dvlm import stages
from dvlm.config import TrainConfig
from dvlm.data.datamodule import CaptionDataModule
from dvlm.data.rewrite import Rewriter
from dvlm.learning.cached import CachedTeacher
from dvlm.learning.origin import Origin
from dvlm.learning.rollout import Rollout, TransformersEngine
from dvlm.learning.teacher import AdaptersOff, FrozenModel, Teacher
from dvlm.models.generate import Sampling
from dvlm.models.tuning import Tuned
from dvlm.values import InputError


def check_aim(config: TrainConfig) -> None:
    """Raise InputError where nothing pulls: a student that is its teacher, and no cross-entropy on any step."""
    rlhf = config.rlhf
    if not rlhf.uses_teacher or (rlhf.sft_alpha > 0 and rlhf.lmbda < 1) or stages.not_as_teacher(config):
        return
    raise InputError(
        f"the student starts as its teacher, and with rlhf.sft_alpha {rlhf.sft_alpha:g} and rlhf.lmbda {rlhf.lmbda:g} "
        "nothing else pulls it: no weight would ever change; name another model as rlhf.teacher_model, or set "
        "sft_alpha above 0 and lmbda below 1"
    )


def build_rollout(config: TrainConfig, tuned: Tuned, teacher: Teacher, data: CaptionDataModule) -> Rollout | None:
    """What writes answers for the steps of `lmbda` and `seq_kd`; None where no step asks for it."""
    rlhf = config.rlhf
    if not rlhf.samples:
        return None
    tokenizer = data.encoder.processor.tokenizer
    engine = partial(
        TransformersEngine,
        tokenizer=tokenizer,
        sampling=Sampling(max_new_tokens=rlhf.max_completion_length, temperature=rlhf.temperature, top_p=rlhf.top_p),
        batch_size=rlhf.generation_batch_size,
    )
    layout = Rewriter(
        tokenizer=tokenizer,
        merge=data.encoder.model_config.vision_config.spatial_merge_size,
        packing=config.data.packing,
        samples_per_pack=config.data.samples_per_pack,
        max_length=config.global_max_length,
    )
    inner = teacher.teacher if isinstance(teacher, CachedTeacher) else teacher
    assert isinstance(inner, AdaptersOff | FrozenModel)
    engines = {
        Origin.STUDENT: engine(tuned.model),
        Origin.TEACHER: engine(inner.model, adapters=not isinstance(inner, AdaptersOff)),
    }
    return Rollout(engines=engines, layout=layout, seed=config.seed)
