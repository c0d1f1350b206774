"""How much faster is one warp than the same chain of ops, one by one, with PIL?

    python benchmarks/augmentation.py

Both sides do the same to the same 1024 x 768 photographs, with the same drawn numbers: mirror, turn, zoom, pad to a
multiple of 32, then brightness, contrast, saturation and gamma. Our side includes the drawing and the geometry of 20
labels; PIL has the pixels alone. OpenCV may use one thread. The two are measured in turns, so that a busy machine
slows both; medians are compared. Goal: at least 4.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import skimage.data
from PIL import Image, ImageEnhance

from dvlm.augmentation.pipeline import Pipeline
from dvlm.augmentation.render import FILL, render
from dvlm.augmentation.steps import Colour
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import Annotation, Drawn

WIDTH, HEIGHT = 1024, 768
GREY = (FILL, FILL, FILL)
ALWAYS = {"prob": 1.0}
MOVES = [
    {"name": "hflip", "params": ALWAYS},
    {"name": "rotate", "params": {"max_deg": 15.0, **ALWAYS}},
    {"name": "scale", "params": {"lo": 0.9, "hi": 1.1, **ALWAYS}},
    {"name": "pad_to_multiple"},
]
COLOURS = [{"name": "color_jitter", "params": ALWAYS}, {"name": "gamma", "params": ALWAYS}]


def photographs() -> list[np.ndarray]:
    """Photographs of 1024 x 768 pixels."""
    pictures = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    return [cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for picture in pictures]


def labels(count: int) -> Annotation:
    """Boxes at random places."""
    corners = np.random.default_rng(0).uniform([0, 0], [WIDTH - 100, HEIGHT - 100], (count, 2))
    shapes = Shapes.build((Kind.BBOX, [x, y, x + 100, y + 100]) for x, y in corners)
    return Annotation(WIDTH, HEIGHT, shapes, ("螺丝",) * count)


def with_pil(picture: Image.Image, angle: float, zoom: float, colours: tuple[Colour, ...]) -> Image.Image:
    """The chain op by op."""
    picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.rotate(-angle, Image.Resampling.BILINEAR, fillcolor=GREY)
    shift = [(1 - 1 / zoom) * side / 2 for side in picture.size]
    matrix = (1 / zoom, 0, shift[0], 0, 1 / zoom, shift[1])
    picture = picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=GREY)
    padded = Image.new("RGB", tuple(-(-side // 32) * 32 for side in picture.size), GREY)
    padded.paste(picture)
    for colour in colours:
        if colour.op.name == "gamma":
            padded = padded.point([round(255 * (value / 255) ** colour.params[0]) for value in range(256)] * 3)
        else:
            for enhance, factor in zip(
                (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), colour.params, strict=True
            ):
                padded = enhance(padded).enhance(factor)
    return padded


def motion(drawn: Drawn) -> tuple[float, float]:
    """The angle in degrees and the zoom of a mirrored, turned and scaled image."""
    a, _, _, d, _, _ = drawn.steps[0].matrix
    return float(np.degrees(np.arctan2(-d, -a))), float(np.hypot(a, d))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(title: str, ops: list[dict], rounds: int) -> None:
    """Print the medians of both sides and their ratio."""
    pipeline, annotation, pictures = Pipeline.build(ops), labels(20), photographs()
    ours, theirs = [], []
    for index in range(rounds + 3):
        array = pictures[index % len(pictures)]
        picture = Image.fromarray(array)
        (drawn,) = pipeline.draw([annotation], np.random.default_rng(index))
        angle, zoom = motion(drawn)
        colours = tuple(step for step in drawn.steps if isinstance(step, Colour))
        ours.append(
            seconds(lambda: render(array, pipeline.draw([annotation], np.random.default_rng(index))[0]))  # noqa: B023
        )
        theirs.append(seconds(lambda: with_pil(picture, angle, zoom, colours)))  # noqa: B023
    mine, pil = statistics.median(ours[3:]), statistics.median(theirs[3:])
    print(f"{title:24} ours {mine * 1e3:6.2f} ms   PIL {pil * 1e3:6.2f} ms   ratio {pil / mine:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    compare("geometry and colour", MOVES + COLOURS, rounds)
    compare("geometry alone", MOVES, rounds)


if __name__ == "__main__":
    main()
