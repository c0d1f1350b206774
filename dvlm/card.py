"""The model card of an export: where it comes from, what it was measured to do, and how it is used."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from dvlm.callbacks.jsonl_logger import FILE as LOG
from dvlm.config import ExportConfig
from dvlm.run import RUN

CARD = "README.md"
PROMPTS = "prompts.json"


def write(directory: Path, checkpoint: Path, *, base: str | None, config: ExportConfig, agreement: str) -> None:
    """Write `README.md` of the model in `directory` that was made of `checkpoint`; what the run left is told as far as
    it is there. `agreement` says how close the model is to the one that was trained."""
    run = checkpoint.parent.parent
    facts = _json(run / RUN)
    name = base or _json(checkpoint / "base.json").get("model", "unknown")
    lines = ["---", f"base_model: {name}", "library_name: transformers", "pipeline_tag: image-text-to-text", "---", ""]
    lines += [f"# {run.name}", "", f"Fine-tuned with DVLM from `{name}`, checkpoint `{checkpoint.name}`.", ""]
    lines += [
        "The licence of the base model holds for this one as well; add the terms of the data that it was trained on.",
        "",
    ]
    form = f", weights in {config.quantize} (compressed-tensors)" if config.quantize else ""
    lines += ["## Export", "", f"{agreement}{form}.", ""]
    lines += _metrics(run / LOG, checkpoint)
    lines += _section("Data", [f"- `{file}`: sha256 `{digest}`" for file, digest in facts.get("data", {}).items()])
    lines += _section("Prompts", [f"- {key}: {text}" for key, text in _json(checkpoint / PROMPTS).items()])
    versions = ", ".join(f"{package} {number}" for package, number in facts.get("versions", {}).items())
    command = shlex.join(facts.get("command", []))
    lines += _section("Training", ["```sh", command, "```", "", f"Versions: {versions}."] if command else [])
    lines += ["## Use", "", "```python", *_use(Path(config.output).resolve().name), "```", ""]
    (directory / CARD).write_text("\n".join(lines), encoding="utf-8")


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def _use(name: str) -> list[str]:
    return [
        "from transformers import AutoProcessor, Qwen3VLForConditionalGeneration",
        "",
        f"model = Qwen3VLForConditionalGeneration.from_pretrained({name!r})",
        f"processor = AutoProcessor.from_pretrained({name!r})",
    ]


def _metrics(log: Path, checkpoint: Path) -> list[str]:
    """The validation of the checkpoint's step: the last that was logged at or before it."""
    if not log.is_file():
        return []
    step = int(checkpoint.name.rpartition("-")[2]) if checkpoint.name.startswith("step-") else None
    latest: dict[str, Any] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        if step is None or values["step"] <= step:
            latest |= {key: (value, values["step"]) for key, value in values.items() if key.startswith("eval/")}
    rows = [f"| `{key}` | {value:.4g} | {at} |" for key, (value, at) in sorted(latest.items())]
    return _section("Validation", ["| metric | value | step |", "|---|---|---|", *rows] if rows else [])


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
