"""At each validation: the truth and the student's greedy answer, drawn side by side on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from numpy.typing import NDArray

from dvlm import drawing
from dvlm.augmentation.render import render
from dvlm.data import answers, images
from dvlm.data.messages import Prompts
from dvlm.models import generate
from dvlm.scale.fsdp import whole_rest
from dvlm.values import InputError, Mode, Sample


class Pictures(L.Callback):
    """Writes `samples/step-000100/<n>.png` and the answers as text beside them."""

    def __init__(
        self, directory: Path, samples: Sequence[Sample], *, tokenizer: Any, prompts: Prompts, max_new_tokens: int
    ) -> None:
        self.directory, self.samples, self.tokenizer = directory, samples, tokenizer
        self.prompts, self.max_new_tokens = prompts, max_new_tokens

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Generate on every rank (sharded weights need all of them), draw on the first."""
        # What trains is in float32: on a bfloat16 base the two meet only in mixed precision.
        with trainer.precision_plugin.forward_context(), whole_rest(module):
            written = generate.answer(module.model, self.tokenizer, self.samples, max_new_tokens=self.max_new_tokens)
        if not trainer.is_global_zero:
            return
        folder = self.directory / f"step-{trainer.global_step:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        for number, (sample, text) in enumerate(zip(self.samples, written, strict=True), 1):
            drawing.save_png(folder / f"{number}.png", compare(sample, text, self.prompts))
            (folder / f"{number}.txt").write_text(f"{sample.answer}\n\n{text}\n", encoding="utf-8")


def compare(sample: Sample, text: str, prompts: Prompts) -> NDArray[np.uint8]:
    """The sample's images one below the other: left with the truth, right with what `text` says."""
    pixels = [render(images.load(path), drawn) for path, drawn in zip(sample.turn.images, sample.drawn, strict=True)]
    if sample.turn.mode is not Mode.DENSE:
        rows = [drawing.side_by_side([image, image], [sample.answer, text]) for image in pixels]
        return stack(rows)
    sizes = [(image.annotation.width, image.annotation.height) for image in sample.drawn]
    try:
        told, title = answers.parse(text, sizes, prompts), "answer"
    except InputError as error:
        told, title = answers.readable(text, sizes, prompts), f"what can be read: {error}"
    rows = []
    for index, image in enumerate(pixels):
        truth = sample.drawn[index].annotation
        left = drawing.draw(image, truth.shapes, truth.descs)
        right = drawing.draw(image, told[index].shapes, told[index].descs)
        rows.append(drawing.side_by_side([left, right], ["truth", title]))
    return stack(rows)


def stack(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures one below the other, narrower ones filled with white on the right."""
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded)
