"""`python -m dvlm.export`: a checkpoint becomes a merged model that plain transformers loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dvlm.config import ExportConfig
from dvlm.config.compose import run_verb


def main() -> None:
    """The command line."""
    run_verb("export", export)


def export(config: ExportConfig) -> None:
    """Merge the best (else the last) checkpoint of a run, or the one given, and say how close the result is."""
    from dvlm import card, process
    from dvlm.checkpoints import find
    from dvlm.models.merge import Merged, base_of, merge

    process.quiet_libraries()
    checkpoint = find(config.checkpoint, prefer=("best", "last"))
    base = base_of(checkpoint, config.base_model)
    inputs, whence = probe(checkpoint, base)

    def finish(directory: Path, merged: Merged) -> None:
        card.write(directory, checkpoint, base=base, config=config, agreement=f"{merged}, on {whence}")

    merged = merge(checkpoint, Path(config.output).resolve(), config, base=base, probe=inputs, finish=finish)
    print(f"checkpoint {checkpoint}\nmerged     {merged.output}\ncompared   on {whence}")
    print(f"result     {merged}")
    print(f"use        Qwen3VLForConditionalGeneration.from_pretrained({str(merged.output)!r})")


def probe(checkpoint: Path, base: str | None) -> tuple[dict[str, Any], str]:
    """What both models are shown: a validation sample of the checkpoint's own run, else a picture made here."""
    from dvlm.augmentation.pipeline import Pipeline
    from dvlm.data import source
    from dvlm.data.encode import Encoder
    from dvlm.models import load, merge
    from dvlm.run import read_config

    processor = load.load_processor(str(checkpoint))
    run = read_config(checkpoint.parent.parent)
    if run is None or not run.data.val_jsonl or not Path(run.data.val_jsonl).is_file():
        return dict(merge.ramp(processor)), "a generated picture"
    data = replace(run.data, sample_limit=run.data.images_per_user_turn)
    encoder = Encoder(processor, load.load_config(base or str(checkpoint)))
    augmentation = Pipeline.build(run.augmentation.as_mappings()).clean()
    line = source.validation(data, augmentation=augmentation, encoder=encoder, seed=run.seed)
    assert line is not None
    return merge.inputs(line.sample(0, 0)), f"a sample of {run.data.val_jsonl}"


if __name__ == "__main__":
    main()
