"""A request becomes a prompt: images on the canvas that training used, the checkpoint's own words around them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvlm.augmentation.pipeline import Pipeline
from dvlm.augmentation.render import render
from dvlm.data import images, messages
from dvlm.data.encode import Encoder
from dvlm.data.messages import Prompts
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import Annotation, Drawn, Mode, Prompt


@dataclass(frozen=True, kw_only=True)
class Request:
    """Images to be shown together in one user message; `system` and `user` replace the checkpoint's own prompts.

    Without images it is a question in words alone. `grammar` is the form of its answer where that is not the mode's.
    """

    images: tuple[Path, ...]
    mode: Mode = Mode.DENSE
    system: str | None = None
    user: str | None = None
    grammar: str | None = None


@dataclass(frozen=True)
class Placed:
    """One image of a request: its size (width, height) in pixels, and that of the canvas it was shown on.

    `offset` and `scale` (x, y) place it there: canvas = offset + scale * original.
    """

    size: tuple[int, int]
    canvas: tuple[int, int]
    offset: tuple[float, float]
    scale: tuple[float, float]

    @classmethod
    def of(cls, drawn: Drawn, size: tuple[int, int]) -> Placed:
        """From what was drawn for a box around the whole image."""
        x1, y1, x2, y2 = drawn.annotation.shapes.points.reshape(-1).tolist()
        scale = ((x2 - x1) / size[0], (y2 - y1) / size[1])
        return cls(size, (drawn.annotation.width, drawn.annotation.height), (x1, y1), scale)

    def original(self, told: Annotation) -> Annotation:
        """Shapes on the canvas as shapes on the original image, cut off at its border."""
        points = (told.shapes.points - self.offset) / self.scale
        shapes = Shapes(told.shapes.kinds, np.clip(points, 0, self.size), told.shapes.starts)
        return Annotation(*self.size, shapes, told.descs)


@dataclass(frozen=True)
class Asked:
    """A request, encoded; `text` and `pixels` (H, W, 3) uint8 are what was encoded."""

    request: Request
    prompt: Prompt
    placed: tuple[Placed, ...]
    text: str
    pixels: tuple[NDArray[np.uint8], ...]


def ask(request: Request, *, prompts: Prompts, canvas: Pipeline, encoder: Encoder) -> Asked:
    """Read, place and encode the images of a request; raises ImageError for one that cannot be read."""
    placed, pixels = [], []
    for path in request.images:
        image = images.load(path)
        height, width = image.shape[:2]
        whole = Annotation(width, height, Shapes.build([(Kind.BBOX, [0, 0, width, height])]), ("",))
        drawn = canvas.draw([whole], np.random.default_rng(0))[0]
        placed.append(Placed.of(drawn, (width, height)))
        pixels.append(render(image, drawn))
    asked = _messages(request, prompts)
    return Asked(request, encoder.encode_prompt(asked, pixels), tuple(placed), encoder.prompt(asked), tuple(pixels))


def _messages(request: Request, prompts: Prompts) -> list[dict[str, Any]]:
    system = prompts.system(request.mode) if request.system is None else request.system
    return messages.question(system, request.images, prompts.user if request.user is None else request.user)
