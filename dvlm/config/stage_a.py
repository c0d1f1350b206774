"""The root of `stage_a`: which checkpoint, which images, which part of them, where the summaries go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from dvlm.config.engine import EngineConfig
from dvlm.config.knob import at_least, check_paths, group, knob, paths
from dvlm.config.mission import MissionConfig


@dataclass
class StageAConfig:
    """`python -m dvlm.stage_a`: one line of summary an image; goes on where it was interrupted."""

    engine: EngineConfig = group(EngineConfig)
    mission: MissionConfig = group(MissionConfig)
    checkpoint: str | None = knob(None, "run, checkpoint, adapter or model directory; only merge needs none", path=True)
    base_model: str | None = knob(None, "base model of an adapter; null: the one that it names", path=True)
    input: str = knob("???", "folder of images, or <root>/<mission>/{审核通过|审核不通过}/<group_id>/", path=True)
    image_root: Any = knob(
        None, "folder, or list of folders, that all images must lie in, links followed; null: anywhere", many=True
    )
    output: str = knob("outputs/stage_a", "folder of one JSONL a mission, or the file itself (*.jsonl)", path=True)
    images_per_turn: int = knob(1, "images of a group shown together in one user message", "images")
    user_prompt: str | None = knob(None, "text after the images, before the focus; null: the checkpoint's", text=True)
    shard: str | None = knob(None, "answer one part only: 2/4 is the second of four ranges of groups; null: all")
    merge: bool = knob(False, "write the files from what the shards have answered; asks nothing")
    overwrite: bool = knob(False, "forget earlier answers (a shard: its own) and replace the files")

    def __post_init__(self) -> None:
        check_paths("", self)
        paths("image_root", self.image_root)
        at_least("images_per_turn", self.images_per_turn, 1)
        if self.shard is not None and self.part is None:
            raise ValueError(f"shard is '{self.shard}', expected i/n with 1 <= i <= n, such as 2/4")
        if self.merge and (self.shard is not None or self.overwrite):
            raise ValueError("merge puts all shards together as they are; leave shard and overwrite out")
        if not self.merge and self.checkpoint is None:
            raise ValueError("checkpoint has no value; give checkpoint=<run or model>")

    @property
    def part(self) -> tuple[int, int] | None:
        """`shard` as numbers (i, n); None for what is no i/n."""
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard or "")
        number, of = map(int, match.groups()) if match else (0, 0)
        return (number, of) if 1 <= number <= of else None
