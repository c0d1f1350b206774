"""The root of `preview`: a run's configuration, and which part of its data to show."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.knob import at_least, knob
from dvlm.config.train import TrainConfig


@dataclass
class PreviewConfig(TrainConfig):
    """`python -m dvlm.preview`: one HTML page of what training will see; takes the overrides of a run."""

    epoch: int = knob(0, "which epoch to show; each pairs and augments anew")
    samples: int = knob(12, "turns to show in pictures; the numbers are of the whole epoch", "turns")
    output: str = knob("outputs/preview.html", "the HTML file to write, replaced if it is there", path=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("epoch", self.epoch, 0)
        at_least("samples", self.samples, 0)
