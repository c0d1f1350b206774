"""With `debug=true`: the first training sample as the model sees it, decoded and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from dvlm import drawing
from dvlm.augmentation.render import render
from dvlm.callbacks.pictures import stack
from dvlm.data import images
from dvlm.values import Sample

PAD = "<|image_pad|>"


class FirstSample(L.Callback):
    """Prints the first sample's text and what of it is supervised, and writes `samples/first.png`."""

    def __init__(self, directory: Path, sample: Sample, tokenizer: Any) -> None:
        self.directory, self.sample, self.tokenizer = directory, sample, tokenizer

    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        """Show it once, on the first rank."""
        if not trainer.is_global_zero:
            return
        sample = self.sample
        supervised = sample.labels != -100
        print(f"first sample: {sample.turn.place}, {len(sample.input_ids)} tokens, {int(supervised.sum())} supervised")
        print(shortened(self.tokenizer.decode(sample.input_ids)))
        print(f"supervised: {self.tokenizer.decode(sample.labels[supervised])}")
        print(f"written    {draw_first(self.directory, sample)}")


def shortened(text: str) -> str:
    """The text with each run of image tokens replaced by its length."""
    parts = text.split(PAD)
    out, run = parts[0], 0
    for part in parts[1:]:
        run += 1
        if part:
            out, run = f"{out}{PAD}x{run}{part}", 0
    return out + (f"{PAD}x{run}" if run else "")


def draw_first(directory: Path, sample: Sample) -> Path:
    """Write the sample's images after augmentation, with their labels, one below the other."""
    rows = []
    for path, drawn in zip(sample.turn.images, sample.drawn, strict=True):
        pixels = render(images.load(path), drawn)
        rows.append(drawing.draw(pixels, drawn.annotation.shapes, drawn.annotation.descs, title=path.name))
    target = directory / "first.png"
    drawing.save_png(target, stack(rows))
    return target
