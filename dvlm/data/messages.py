"""A turn becomes messages: the system prompt of its mode, one user message, and the answer as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dvlm.config import DataConfig
from dvlm.geometry.normalise import normalise
from dvlm.geometry.order import top_left
from dvlm.values import Annotation, Drawn, InputError, Mode, Turn

FILE = "prompts.json"


@dataclass(frozen=True)
class Prompts:
    """What a model must be asked, and how its answers are written: kept with every checkpoint, used again to infer."""

    user: str
    system_dense: str
    system_summary: str
    emit_norm: str
    object_order: str

    def __post_init__(self) -> None:
        for name in ("user", "system_dense", "system_summary"):
            if "<|" in getattr(self, name):
                raise InputError(f"prompt {name}: {getattr(self, name)!r} holds a special token ('<|')")

    @classmethod
    def of(cls, data: DataConfig | type[DataConfig]) -> Prompts:
        """The prompts that the `data` group asks for, or those of its defaults."""
        return cls(
            data.user_prompt, data.system_prompt_dense, data.system_prompt_summary, data.emit_norm, data.object_order
        )

    @classmethod
    def load(cls, directory: Path) -> Prompts:
        """From `prompts.json` of a checkpoint."""
        return cls(**json.loads((directory / FILE).read_text(encoding="utf-8")))

    def save(self, directory: Path) -> None:
        """Into `prompts.json` of a checkpoint."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=2)
        (directory / FILE).write_text(text + "\n", encoding="utf-8")

    def system(self, mode: Mode) -> str:
        """The system prompt of a mode."""
        return self.system_dense if mode is Mode.DENSE else self.system_summary


def build(turn: Turn, drawn: tuple[Drawn, ...], prompts: Prompts) -> list[dict[str, Any]]:
    """The messages of a turn, the answer last. `drawn` holds one entry a record (dense turns read its annotation)."""
    if turn.dialogue is not None:
        return list(turn.dialogue.messages)
    assert turn.mode is not None
    asked = question(prompts.system(turn.mode), turn.images, prompts.user)
    return [*asked, _message("assistant", [_text(answer(turn, drawn, prompts))])]


def question(system: str, images: Sequence[Path], user: str) -> list[dict[str, Any]]:
    """System prompt and one user message: images first, then the text."""
    shown = [{"type": "image", "image": str(path)} for path in images]
    return [_message("system", [_text(system)]), _message("user", [*shown, _text(user)])]


def answer(turn: Turn, drawn: tuple[Drawn, ...], prompts: Prompts) -> str:
    """The JSON answer of a turn of records: `{"图片_1": [...], ...}` or `{"图片_1": "summary", ...}`."""
    if turn.mode is Mode.SUMMARY:
        values: list[Any] = [record.summary for record in turn.records]
    else:
        values = [objects(image.annotation, prompts) for image in drawn]
    return json.dumps({image_key(number): value for number, value in enumerate(values, 1)}, ensure_ascii=False)


def image_key(number: int) -> str:
    """The key of the n-th image of a turn, counted from 1."""
    return f"图片_{number}"


def objects(annotation: Annotation, prompts: Prompts) -> list[dict[str, Any]]:
    """The objects of one image as the answer writes them, coordinates normalised and rounded."""
    shapes = annotation.shapes
    order = top_left(shapes) if prompts.object_order == "top_left" else range(len(shapes))
    norm: Any = prompts.emit_norm
    points = normalise(shapes.points, annotation.width, annotation.height, norm)
    return [
        {
            shapes.kind(i).key: points[shapes.starts[i] : shapes.starts[i + 1]].reshape(-1).tolist(),
            "desc": annotation.descs[i],
        }
        for i in map(int, order)
    ]


def _message(role: str, content: list[dict[str, str]]) -> dict[str, Any]:
    return {"role": role, "content": content}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
