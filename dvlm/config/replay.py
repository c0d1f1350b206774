"""The root of `replay`."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.knob import check_paths, knob


@dataclass
class ReplayConfig:
    """`python -m dvlm.replay <dump>`: run a step that a guard kept once more, and say whether the same happens."""

    dump: str = knob("???", "directory that a guard wrote: <run>/dumps/step-000012; also the first word", path=True)

    def __post_init__(self) -> None:
        check_paths("", self)
