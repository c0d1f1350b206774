"""Group `callbacks`: what a person watches during a run."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.guards import GuardsConfig
from dvlm.config.knob import at_least, group, knob, one_of


@dataclass
class CallbacksConfig:
    """What a person watches during a run."""

    progress: str = knob("auto", "bar | lines | none; auto: a bar on a terminal, else one line every so often")
    sample_pictures: int = knob(4, "validation samples drawn with truth and greedy answer, each time", "samples")
    sample_max_new_tokens: int = knob(384, "longest answer in these pictures", "tokens")
    score_turns: int = knob(0, "validation turns answered and scored (eval/f1, eval/f1_quad, ...); 0: none", "turns")
    score_steps: int | None = knob(None, "score at validations of every so many steps; null: at each", "steps")
    score_max_new_tokens: int = knob(1024, "longest answer that is scored", "tokens")
    guards: GuardsConfig = group(GuardsConfig)

    def __post_init__(self) -> None:
        one_of("callbacks.progress", self.progress, ("auto", "bar", "lines", "none"))
        at_least("callbacks.sample_pictures", self.sample_pictures, 0)
        at_least("callbacks.score_turns", self.score_turns, 0)
        for name in ("sample_max_new_tokens", "score_steps", "score_max_new_tokens"):
            at_least(f"callbacks.{name}", getattr(self, name), 1)
