"""Scores of generated answers during training: the metrics of an evaluation, on the first validation turns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning as L

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import EngineConfig
from dvlm.data.line import Line
from dvlm.evaluation.turns import answered, turns
from dvlm.inference.backend import Transformers
from dvlm.inference.engine import Engine
from dvlm.metrics.scores import scores

BY_NAME = ("class/", "attribute/")  # scores of what the data names; `dvlm.evaluate` has them


class Scores(L.Callback):
    """Publishes `eval/f1_quad`, `eval/caption_f1` and the like, so that `trainer.metric_for_best_model` may name them.

    `count` turns at every `every`-th step (None: at each validation), answers held to their form.
    """

    def __init__(self, line: Line, *, count: int, every: int | None, max_new_tokens: int) -> None:
        self.line, self.every = replace(line, augmentation=line.augmentation.clean()), every
        self.turns = turns(self.line, count)
        self.config = EngineConfig(max_new_tokens=max_new_tokens)

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Generate on every rank (sharded weights need all of them); the same answers, the same scores."""
        if self.every and trainer.global_step % self.every:
            return
        encoder = self.line.encoder
        backend = Transformers(module.model, encoder.processor.tokenizer)
        canvas: Pipeline = self.line.augmentation
        engine = Engine(backend, encoder, self.line.prompts, canvas, self.config)
        # What trains is in float32: on a bfloat16 base the two meet only in mixed precision.
        with trainer.precision_plugin.forward_context():
            images = [sums for each in answered(engine, self.turns) for sums in each.sums()]
        found = scores(images, resamples=0)
        module.publish({f"eval/{name}": each.value for name, each in found.items() if not name.startswith(BY_NAME)})
