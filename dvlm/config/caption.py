"""The root of `caption`: which checkpoint, which images, where the captions go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dvlm.config.engine import EngineConfig
from dvlm.config.knob import at_least, check_paths, group, knob, one_of, paths


@dataclass
class CaptionConfig:
    """`python -m dvlm.caption`: images in, a JSONL of what is in them out."""

    engine: EngineConfig = group(EngineConfig)
    checkpoint: str = knob("???", "run, checkpoint, adapter or model directory", path=True)
    base_model: str | None = knob(None, "base model of an adapter; null: the one that it names", path=True)
    input: str = knob("???", "an image, a folder of images, or a JSONL of records", path=True)
    image_root: Any = knob(
        None, "folder, or list of folders, that all images must lie in, links followed; null: anywhere", many=True
    )
    output: str = knob("captions.jsonl", "the JSONL file to write", path=True)
    pictures: str | None = knob(None, "folder for pictures with everything drawn; null: none", path=True)
    mode: str = knob("dense", "dense (objects with geometry) | summary (a line of text an image)")
    images_per_turn: int = knob(1, "images shown together in one user message", "images")
    user_prompt: str | None = knob(None, "text after the images; null: the checkpoint's own", text=True)
    stream: bool = knob(False, "print the text of each answer as it is written, one request at a time")
    overwrite: bool = knob(False, "replace an existing output file")

    def __post_init__(self) -> None:
        check_paths("", self)
        paths("image_root", self.image_root)
        one_of("mode", self.mode, ("dense", "summary"))
        at_least("images_per_turn", self.images_per_turn, 1)
