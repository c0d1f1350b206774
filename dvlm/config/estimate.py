"""The root of `estimate`: a run's configuration, and the machine that it would run on."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.knob import at_least, knob, within
from dvlm.config.train import TrainConfig


@dataclass
class EstimateConfig(TrainConfig):
    """`python -m dvlm.estimate`: parameters, memory, FLOPs and time of a run before it runs; needs no weights."""

    gpus: list[int] = knob([1, 2, 4, 8], "numbers of GPUs to show", "GPUs")
    lengths: list[int] = knob([2048, 4096, 8192, 16384], "row lengths to show activations for", "tokens")
    peak_tflops: float = knob(312.0, "dense bfloat16 peak of one GPU: A100 312, H100 989, L40S 362", "TFLOP/s")
    mfu: float = knob(0.35, "share of the peak that the model's own FLOPs reach", "share")
    sample_tokens: int = knob(1024, "tokens of a sample, where the data cannot be counted", "tokens")
    image_share: float = knob(0.6, "share of image tokens, where the data cannot be counted", "share")
    supervised_share: float = knob(0.25, "share of supervised tokens, where the data cannot be counted", "share")
    records: int | None = knob(None, "training records; null: those of the data", "records")
    output: str | None = knob(None, "JSON file to write, replaced if it is there; null: only the tables", path=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gpus", "lengths"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a list of numbers of at least 1")
        at_least("peak_tflops", self.peak_tflops, 0, above=True)
        at_least("records", self.records, 1)
        at_least("sample_tokens", self.sample_tokens, 16)
        for name in ("mfu", "image_share", "supervised_share"):
            within(name, getattr(self, name), 0, 1)
        for name in ("mfu", "supervised_share"):
            at_least(name, getattr(self, name), 0, above=True)
        if self.image_share + self.supervised_share > 1:
            raise ValueError(
                f"image_share {self.image_share} and supervised_share {self.supervised_share} are more than the whole; "
                "lower one of them"
            )
