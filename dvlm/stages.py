"""What an earlier stage left, and how a run starts from it: an adapter is loaded, a whole model becomes the base."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from dvlm.checkpoints import find, is_run
from dvlm.config import TrainConfig
from dvlm.models import adapters, load
from dvlm.models.tuning import Tuned
from dvlm.values import InputError

KEY = adapters.KEY
SIZES = ("hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size")


@dataclass(frozen=True)
class Stage:
    """Where the weights of an earlier stage are, and whether they are an adapter or a whole model."""

    directory: Path
    is_adapter: bool

    def __str__(self) -> str:
        return f"the {'adapter' if self.is_adapter else 'whole model'} in {self.directory}"


def find_stage(path: str) -> Stage:
    """The weights that `path` means: of a run (its last checkpoint), a checkpoint, an adapter or a model directory.

    Raises InputError where there are none.
    """
    given = Path(path)
    if not given.is_dir():
        raise InputError(
            f"{KEY}: there is no directory '{path}'; give the run directory of the earlier stage (or a checkpoint, an "
            f"adapter, a merged model), such as {KEY}=outputs/stage_1_aligner/<id>, or null to start from the base"
        )
    return _stage_in(find(path) if is_run(given) else given.resolve())


def _stage_in(directory: Path) -> Stage:
    if (directory / adapters.CONFIG).is_file():
        return Stage(directory, is_adapter=True)
    if (directory / "config.json").is_file() and next(directory.glob("*.safetensors"), None):
        return Stage(directory, is_adapter=False)
    raise InputError(
        f"{KEY}: {directory} has neither an adapter ({adapters.CONFIG}) nor a model (config.json, safetensors); "
        "give a run directory, a checkpoint, an adapter or a merged model"
    )


def resolved(config: TrainConfig) -> TrainConfig:
    """The same configuration with `tuner.resume_from_checkpoint` as the directory of the weights.

    Raises InputError where there are none, and for an adapter that full tuning has no place for. A run that continues
    by `resume_from` has its weights already and may leave the stage out.
    """
    path = config.tuner.resume_from_checkpoint
    if path is None or (config.resume_from and not Path(path).is_dir()):
        return replace(config, tuner=replace(config.tuner, resume_from_checkpoint=None))
    stage = find_stage(path)
    if stage.is_adapter and config.tuner.train_type == "full":
        raise InputError(
            f"{KEY}: {stage.directory} holds an adapter, but full tuning has none; merge it with "
            f"`python -m dvlm.export checkpoint={shlex.quote(str(stage.directory))} output=<directory>` and give that"
        )
    return replace(config, tuner=replace(config.tuner, resume_from_checkpoint=str(stage.directory)))


def base_of(config: TrainConfig) -> str:
    """The model that training starts from: that of a stage that left a whole one, else `model.model`.

    Raises InputError for a whole model of other sizes than `model.model`.
    """
    path = config.tuner.resume_from_checkpoint
    if path is None or _stage_in(Path(path)).is_adapter:
        return config.model.model
    ours, theirs = load.load_config(config.model.model), load.load_config(path)
    for part in ("text_config", "vision_config"):
        for name in SIZES:
            sizes = [getattr(getattr(each, part), name, None) for each in (theirs, ours)]
            if sizes[0] != sizes[1]:
                raise InputError(f"{KEY}: {path} has {part}.{name} {sizes[0]}, but {config.model.model} has {sizes[1]}")
    return path


def started(tuned: Tuned, config: TrainConfig) -> Tuned:
    """`tuned` with the weights of the earlier stage in it, where they are an adapter; it says what starts fresh."""
    path = config.tuner.resume_from_checkpoint
    if path is None or config.resume_from:
        return tuned
    stage = _stage_in(Path(path))
    fresh = adapters.start_from(tuned.model, stage.directory) if stage.is_adapter else []
    return replace(tuned, origin=str(stage), fresh=tuple(fresh))


def not_as_teacher(config: TrainConfig) -> str | None:
    """Why student and teacher differ before the first step; None where they are the same function."""
    if config.rlhf.teacher_model != "base":
        return "the teacher is another model"
    if config.resume_from or config.tuner.resume_from_checkpoint:
        return "the student starts from trained weights"
    if not config.tuner.starts_as_base:
        return "tuner.init_lora_weights=false starts adapters at random"
    return None
