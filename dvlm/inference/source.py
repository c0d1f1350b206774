"""What a checkpoint argument means: an adapter and its base, a run directory, or a whole model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvlm.augmentation.pipeline import Pipeline
from dvlm.checkpoints import MANIFEST, find
from dvlm.data import messages
from dvlm.data.messages import Prompts
from dvlm.models import load
from dvlm.models.adapters import CONFIG as ADAPTER
from dvlm.models.merge import base_of
from dvlm.values import InputError

RUN_MARKS = (MANIFEST, "checkpoints", "best", "last")


@dataclass(frozen=True)
class Source:
    """Where answers come from: `directory` holds processor, prompts and weights; `base` where these are an adapter."""

    directory: Path
    base: str | None

    @property
    def model(self) -> str:
        """The directory or hub id of the whole model: the base of an adapter, or the checkpoint itself."""
        return self.base or str(self.directory)

    @property
    def prompts(self) -> Prompts | None:
        """The checkpoint's own prompts; None where it has none, as a released model."""
        return Prompts.load(self.directory) if (self.directory / messages.FILE).is_file() else None

    @property
    def canvas(self) -> Pipeline:
        """What training did to every image, such as padding to a multiple."""
        return Pipeline.load(self.directory)


def resolve(checkpoint: str, base_model: str | None) -> Source:
    """The best (else the last) checkpoint of a run, an adapter directory, or a whole model.

    Raises InputError, naming what was expected, for anything else, and where base and adapter do not belong together.
    """
    given = Path(checkpoint)
    if any((given / name).exists() for name in RUN_MARKS):
        given = find(checkpoint, prefer=("best", "last"))
    elif not given.is_dir():
        raise InputError(f"checkpoint: {checkpoint} is no directory; give a run, a checkpoint or a model directory")
    if not any((given / name).is_file() for name in (ADAPTER, "config.json")):
        raise InputError(f"checkpoint: {checkpoint} holds neither {ADAPTER} nor config.json: no adapter and no model")
    source = Source(given.resolve(), base_of(given, base_model))
    if source.base:
        _check_template(source)
    elif base_model:
        raise InputError(f"base_model is {base_model}, but {checkpoint} is a whole model; leave base_model out")
    return source


def _check_template(source: Source) -> None:
    """The chat template that was trained with is that of the base: an adapter answers no other one."""
    ours, theirs = (_template(load.load_processor(each)) for each in (str(source.directory), source.model))
    if ours != theirs:
        raise InputError(
            f"checkpoint: {source.directory} was trained with another chat template than that of {source.base}; "
            "give the base that it was trained on with base_model=<directory>"
        )


def _template(processor: Any) -> str:
    return json.dumps(processor.chat_template, sort_keys=True)
