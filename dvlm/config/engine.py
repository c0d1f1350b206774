"""Group `engine`: who writes the answers, how many at a time, and what form they must have."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.knob import at_least, knob, one_of, within
from dvlm.config.model import DTYPES


@dataclass
class EngineConfig:
    """Who writes the answers, how many at a time, and what form they must have."""

    backend: str = knob("transformers", "transformers (in this process) | vllm (GPU, extra `vllm`)")
    torch_dtype: str | None = knob(None, "dtype of the weights and of the compute; null: the base model's own")
    attn_impl: str = knob("sdpa", "attention: sdpa | flash_attention_2 (GPU) | eager")
    batch_size: int = knob(8, "requests that are answered together", "requests")
    workers: int = knob(2, "threads that read and encode images ahead of the model", "threads")
    max_new_tokens: int = knob(2048, "longest answer; one that is cut off is reported, never repaired", "tokens")
    temperature: float = knob(0.0, "0 is greedy: the same answer every time")
    top_p: float = knob(1.0, "nucleus of sampling; only with a temperature", "probability")
    seed: int = knob(17, "seed of sampling")
    constrained: bool = knob(True, "hold answers to the form of their mode while they are written")
    max_objects: int = knob(60, "objects an image; part of the form", "objects")
    max_line_points: int = knob(32, "vertices of a line; part of the form", "points")
    max_desc_chars: int = knob(
        80,
        "characters of a description or summary, as many again after each of up to 8 escapes; part of the form",
        "characters",
    )

    def __post_init__(self) -> None:
        one_of("engine.backend", self.backend, ("transformers", "vllm"))
        one_of("engine.attn_impl", self.attn_impl, ("sdpa", "flash_attention_2", "eager"))
        if self.torch_dtype is not None:
            one_of("engine.torch_dtype", self.torch_dtype, DTYPES)
        for name in ("batch_size", "workers", "max_new_tokens", "max_objects", "max_desc_chars"):
            at_least(f"engine.{name}", getattr(self, name), 1)
        at_least("engine.max_line_points", self.max_line_points, 2)
        at_least("engine.temperature", self.temperature, 0.0)
        at_least("engine.seed", self.seed, 0)
        within("engine.top_p", self.top_p, 0.0, 1.0)
        if self.top_p < 1 and self.temperature == 0:
            raise ValueError(f"engine.top_p is {self.top_p}, but temperature 0 is greedy; set engine.temperature too")
