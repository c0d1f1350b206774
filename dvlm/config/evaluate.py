"""The root of `evaluate`: which checkpoint, on which records, scored how."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.data import DataConfig
from dvlm.config.engine import EngineConfig
from dvlm.config.knob import at_least, check_paths, group, knob


@dataclass
class EvaluateConfig:
    """`python -m dvlm.evaluate`: losses and scores of a checkpoint on validation records, as JSON and a page."""

    engine: EngineConfig = group(EngineConfig)
    data: DataConfig = group(DataConfig)
    checkpoint: str = knob("???", "run, checkpoint, adapter or model directory; `base`: base_model itself", path=True)
    base_model: str | None = knob(None, "base model of an adapter; null: the one that it names", path=True)
    output: str = knob("outputs/evaluation", "folder of evaluation.json, answers.jsonl and index.html", path=True)
    losses: bool = knob(True, "sft_loss, and kl_loss against the base where the checkpoint is an adapter")
    generate: bool = knob(True, "answer the turns and score the answers")
    free_too: bool = knob(False, "answer once more without holding answers to their form; reported apart")
    limit: int | None = knob(None, "turns to answer, the first ones; null: all", "turns")
    against: str | None = knob(None, "folder of another evaluation, to compare side by side", path=True)
    worst: int = knob(12, "turns with the worst answers that the page shows", "turns")
    resamples: int = knob(1000, "bootstrap resamples behind each 95 % interval; 0: no intervals")
    global_max_length: int = knob(4096, "longest row of the losses", "tokens")
    seed: int = knob(17, "seed of resampling; and of pairing, as in training")
    cache_dir: str = knob("outputs/cache", "where the tiny model, the demo set and lengths are made", path=True)
    overwrite: bool = knob(False, "replace the results of an earlier evaluation")

    def __post_init__(self) -> None:
        check_paths("", self)
        at_least("limit", self.limit, 1)
        at_least("global_max_length", self.global_max_length, 16)
        for name in ("worst", "resamples", "seed"):
            at_least(name, getattr(self, name), 0)
        if not (self.losses or self.generate):
            raise ValueError("losses and generate are both false: there is nothing to evaluate; set one of them")
        if self.checkpoint == "base" and self.base_model is None:
            raise ValueError("checkpoint=base needs base_model=<model>: the base to score")
        if self.losses and self.engine.backend == "vllm":
            raise ValueError("engine=vllm computes no losses; set losses=false, or use engine=transformers")
