"""One evaluation from beginning to end: losses, answers, scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dvlm.config import EvaluateConfig, ModelConfig
from dvlm.data import source
from dvlm.data.datamodule import plan_of
from dvlm.data.digest import sha256
from dvlm.data.line import Line
from dvlm.evaluation.losses import losses
from dvlm.evaluation.result import CONSTRAINED, FREE, Result
from dvlm.evaluation.turns import Answered, answered, box_pairs, turns
from dvlm.inference.backend import Transformers
from dvlm.inference.engine import Engine
from dvlm.inference.loading import load_engine
from dvlm.learning.teacher import AdaptersOff
from dvlm.metrics.box_ap import box_ap
from dvlm.metrics.scores import Score, scores
from dvlm.models import load
from dvlm.values import InputError

BASE = "base"


def build(config: EvaluateConfig) -> tuple[Engine, Line]:
    """The engine of the checkpoint, and the validation records as it sees them."""
    engine = load_engine(*_checkpoint(config), config.engine, asked=config.data, packing=config.data.packing)
    line = source.validation(config.data, augmentation=engine.canvas, encoder=engine.encoder, seed=config.seed)
    if line is None:
        raise InputError("data.val_jsonl is null: there are no records to evaluate on; give data.val_jsonl=<file>")
    return engine, replace(line, prompts=engine.prompts)


def evaluate(config: EvaluateConfig, engine: Engine, line: Line) -> tuple[Result, list[Answered]]:
    """What was found, and the answers with which decoding was asked for."""
    found = measure_losses(config, engine, line) if config.losses else {}
    by_decoding: dict[str, list[Answered]] = {}
    if config.generate:
        chosen = turns(line, config.limit)
        modes = [config.engine.constrained, *([False] if config.free_too and config.engine.constrained else [])]
        for held in modes:
            own = replace(engine, config=replace(engine.config, constrained=held))
            by_decoding[CONSTRAINED if held else FREE] = list(answered(own, chosen))
    table = {name: score(each, config) for name, each in by_decoding.items()}
    first = next(iter(by_decoding.values()), [])
    return Result(_facts(config, line, len(first)), found, table), first


def score(found: Sequence[Answered], config: EvaluateConfig) -> dict[str, Score]:
    """Every score of the answers, box AP among them (without an interval)."""
    images = [sums for each in found for sums in each.sums()]
    table = scores(images, resamples=config.resamples, seed=config.seed)
    return table | {f"box_{name}": Score(value, value, value) for name, value in box_ap(box_pairs(found)).items()}


def measure_losses(config: EvaluateConfig, engine: Engine, line: Line) -> dict[str, float]:
    """Losses on the packed validation records; the divergence from the base where the checkpoint is an adapter."""
    assert isinstance(engine.backend, Transformers)
    model: Any = engine.backend.model
    plan = plan_of(
        line,
        replace(config.data, packs_per_step=1),
        1,
        seed=config.seed,
        max_length=config.global_max_length,
        cache=Path(config.cache_dir).resolve(),
        shuffle=False,
    )
    teacher = AdaptersOff(model) if hasattr(model, "disable_adapter") else None
    return losses(model, line, plan, packing=config.data.packing, teacher=teacher)


def write_answers(found: Sequence[Answered], file: Path) -> None:
    """One line a turn: where it is, what was written, and why it could not be read, if so."""
    with file.open("w", encoding="utf-8") as handle:
        for each in found:
            row = {"place": each.turn.place, "mode": each.turn.mode, "text": each.reply.text, "error": each.error}
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def worst(found: Sequence[Answered], count: int) -> list[Answered]:
    """The `count` turns with the lowest caption F1 (of summaries: with the most characters wrong), the worst first."""

    def quality(each: Answered) -> float:
        values = scores(each.sums(), resamples=0)
        return next((values[name].value for name in ("caption_f1", "summary_f1") if name in values), 1.0)

    return sorted(found, key=quality)[:count]


def _checkpoint(config: EvaluateConfig) -> tuple[str, str | None]:
    if config.checkpoint != BASE:
        return config.checkpoint, config.base_model
    model = ModelConfig(model=config.base_model or "", max_model_len=1)
    return load.resolve(model, Path(config.cache_dir), "base_model").model, None


def _facts(config: EvaluateConfig, line: Line, answers: int) -> dict[str, Any]:
    file = Path(config.data.val_jsonl or "")
    return {
        "checkpoint": config.checkpoint,
        "base_model": config.base_model,
        "records": str(file),
        "sha256": sha256(file),
        "bad_records": len(line.bad),
        "turns": line.turns,
        "answered": answers,
        "engine": asdict(config.engine),
    }
