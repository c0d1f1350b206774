"""The root of `stage_b`: which model, which summaries, what it is told, where the verdicts go."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.engine import EngineConfig
from dvlm.config.knob import at_least, check_paths, group, knob, pattern_with_group
from dvlm.config.mission import MissionConfig


@dataclass
class StageBConfig:
    """`python -m dvlm.stage_b`: summaries of a group in, passed or not, and why, out. Text only."""

    engine: EngineConfig = group(EngineConfig)
    mission: MissionConfig = group(MissionConfig)
    checkpoint: str = knob("???", "run, checkpoint, adapter or model directory; a base model will do", path=True)
    base_model: str | None = knob(None, "base model of an adapter; null: the one that it names", path=True)
    input: str = knob("???", "JSONL that Stage-A wrote, or the folder of several", path=True)
    output: str = knob(
        "verdicts.jsonl", "the JSONL to write; scores (.json, .png) beside it if there are labels", path=True
    )
    group_by: str | None = knob(
        None, "of a file without groups: all (one group) | a pattern whose (group) names it in image_id", text=True
    )
    system_prompt: str = knob(
        "你是通信机房的质检员。根据每张图片的摘要判断该组图片是否符合任务要求。"
        "只回答两行：第一行写“通过”或“不通过”，第二行以“理由: ”开头，写明理由。",
        "what the model is told to do",
        text=True,
    )
    max_reason_chars: int = knob(200, "longest reason; part of the form", "characters")
    overwrite: bool = knob(False, "replace an existing output file")

    def __post_init__(self) -> None:
        check_paths("", self)
        at_least("max_reason_chars", self.max_reason_chars, 1)
        if "<|" in self.system_prompt:
            raise ValueError(f"system_prompt holds a special token ('<|'): {self.system_prompt!r}")
        if self.group_by not in (None, "all"):
            pattern_with_group("group_by", str(self.group_by), "all, null")
