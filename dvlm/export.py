"""`python -m dvlm.export`: a checkpoint becomes a merged model that plain transformers loads."""

from __future__ import annotations

from pathlib import Path

from dvlm.config import ExportConfig
from dvlm.config.compose import run_verb


def main() -> None:
    """The command line."""
    run_verb("export", export)


def export(config: ExportConfig) -> None:
    """Merge the best (else the last) checkpoint of a run, or the one given, and say how close the result is."""
    from dvlm import process
    from dvlm.checkpoints import find
    from dvlm.models.merge import base_of, merge

    process.quiet_libraries()
    checkpoint = find(config.checkpoint, prefer=("best", "last"))
    output = Path(config.output).resolve()
    base = base_of(checkpoint, config.base_model)
    merged = merge(checkpoint, output, base=base, dtype=config.torch_dtype, overwrite=config.overwrite)
    print(f"checkpoint {checkpoint}\nmerged     {merged.output}")
    same = f"{merged.agreement:.1%} equal likeliest words"
    print(f"logits     within {merged.difference:.2g} of the adapted model, {same}")
    print(f"use        Qwen3VLForConditionalGeneration.from_pretrained({str(merged.output)!r})")


if __name__ == "__main__":
    main()
