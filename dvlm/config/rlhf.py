"""Group `rlhf`: supervised fine-tuning, or generalised knowledge distillation (GKD) from a teacher."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields

from dvlm.config.knob import at_least, check_paths, knob, one_of, within

SAMPLING = ("temperature", "top_p", "max_completion_length", "generation_batch_size")
DIVERGENCES = ("forward_kl", "reverse_kl", "jsd")


@dataclass
class RlhfConfig:
    """The objective: (1/N) * sum over supervised tokens of [sft_alpha * CE + beta * D(teacher, student)]."""

    rlhf_type: str = knob("none", "none (SFT) | gkd")
    beta: float = knob(0.0, "weight of the divergence from the teacher; not the JSD mix that TRL calls beta")
    sft_alpha: float = knob(1.0, "weight of the cross-entropy")
    lmbda: float = knob(0.0, "share of optimizer steps on the student's own samples", "probability")
    seq_kd: bool = knob(False, "on the other steps the teacher writes the answer")
    temperature: float = knob(0.9, "temperature of sampling; the loss has kd_temperature")
    top_p: float = knob(1.0, "nucleus of sampling", "probability")
    max_completion_length: int = knob(256, "longest sampled answer", "tokens")
    generation_batch_size: int = knob(16, "answers that one rank writes at a time: less needs less memory", "prompts")
    teacher_model: str = knob("base", "`base` (the student with its adapters off) or a path or hub id", path=True)
    teacher_offload: str = knob(
        "none", "where a teacher of its own waits between two passes: none (beside the student) | cpu"
    )
    teacher_cache: str = knob("off", "keep the teacher's hidden states in cache_dir for other runs: off | read_write")
    teacher_cache_gib: float = knob(
        50.0, "the most that these may take together; what was not used for longest goes", "GiB"
    )
    divergence: str = knob("forward_kl", "forward_kl = KL(T||S) | reverse_kl = KL(S||T) | jsd")
    jsd_mix: float = knob(0.5, "teacher's share in the mixture of the JSD", "probability")
    kd_temperature: float = knob(1.0, "softens teacher and student in the divergence, without a tau^2 factor")
    eval_kl: bool = knob(False, "log eval/kl_loss against the base also when rlhf_type is none")

    def __post_init__(self) -> None:
        check_paths("rlhf.", self)
        one_of("rlhf.rlhf_type", self.rlhf_type, ("none", "gkd"))
        one_of("rlhf.divergence", self.divergence, DIVERGENCES)
        one_of("rlhf.teacher_offload", self.teacher_offload, ("none", "cpu"))
        one_of("rlhf.teacher_cache", self.teacher_cache, ("off", "read_write"))
        at_least("rlhf.teacher_cache_gib", self.teacher_cache_gib, 0.0, above=True)
        at_least("rlhf.beta", self.beta, 0.0)
        at_least("rlhf.sft_alpha", self.sft_alpha, 0.0)
        at_least("rlhf.kd_temperature", self.kd_temperature, 0.0, above=True)
        at_least("rlhf.temperature", self.temperature, 0.0)
        at_least("rlhf.max_completion_length", self.max_completion_length, 1)
        at_least("rlhf.generation_batch_size", self.generation_batch_size, 1)
        for name in ("lmbda", "top_p", "jsd_mix"):
            within(f"rlhf.{name}", getattr(self, name), 0.0, 1.0)
        if self.rlhf_type == "none" and (self.beta or self.lmbda or self.seq_kd):
            raise ValueError("rlhf.beta, lmbda and seq_kd need a teacher, but rlhf_type is none; use rlhf=gkd_forward")
        if self.sft_alpha == 0 and self.beta == 0:
            raise ValueError("rlhf.sft_alpha and rlhf.beta are both 0: there is no loss; raise one of them")
        if self.lmbda > 0 and self.beta == 0:
            raise ValueError(
                f"rlhf.lmbda is {self.lmbda}, but rlhf.beta is 0: on its own samples the student learns from the "
                "divergence alone; raise rlhf.beta"
            )
        if self.temperature == 0 and self.top_p < 1:
            raise ValueError(f"rlhf.temperature is 0 (greedy) together with top_p {self.top_p}; set top_p to 1.0")
        self._warn_of_idle_knobs()

    def _warn_of_idle_knobs(self) -> None:
        changed = [f for f in fields(self) if f.name in SAMPLING and getattr(self, f.name) != f.default]
        if changed and not self.samples:
            given = ", ".join(f"rlhf.{f.name}={getattr(self, f.name)}" for f in changed)
            warnings.warn(f"{given} has no effect: with lmbda 0 and seq_kd false nothing is sampled", stacklevel=3)

    @property
    def uses_teacher(self) -> bool:
        """Whether training needs a teacher's forward pass."""
        return self.rlhf_type == "gkd"

    @property
    def samples(self) -> bool:
        """Whether some steps learn from answers that are written for them."""
        return self.lmbda > 0 or self.seq_kd
