"""One turn as a card: its images before and after augmentation with their labels, its prompt and its answer."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dvlm import drawing
from dvlm.augmentation.render import render
from dvlm.data import images
from dvlm.data.mixture import Source
from dvlm.gallery.markup import Html, folded, tag
from dvlm.gallery.survey import WHOLE, Survey, mode_name
from dvlm.gallery.words import events
from dvlm.geometry.shapes import Shapes
from dvlm.values import Annotation, Drawn, InputError, Mode, Turn

SIDES = (1280, 1120, 960, 800, 640, 480, 360, 240)  # of a picture's longer side, the first that fits its share of bytes
QUALITY = 80  # of JPEG


def card(line: Source, survey: Survey, epoch: int, index: int, share: int) -> Html:
    """Turn `index` of `epoch`, its pictures of `share` bytes each at most (or of the smallest size).

    Raises InputError, naming file and line, for an image that cannot be read.
    """
    turn = line.turn(epoch, index)
    drawn = line.draw(turn)
    tokens, supervised = survey.lengths[index].tolist()
    dropped = tag("span", "longer than global_max_length", class_="warn") if tokens > survey.max_length else ""
    head = tag(
        "header",
        tag("h3", f"Turn {index}"),
        tag("span", mode_name(turn), class_="chip"),
        tag("strong", turn.source) if turn.source else "",
        tag("span", f"{tokens:,} tokens, {supervised:,} supervised, {survey.image_tokens[index]:,} of images"),
        dropped,
        tag("span", turn.place, class_="place"),
    )
    pictures = [_pair(turn, number, image, share) for number, image in enumerate(drawn)]
    return tag("article", head, *pictures, *_conversation(line, turn, drawn))


def _pair(turn: Turn, number: int, drawn: Drawn, share: int) -> Html:
    """Image `number` of a turn, before and after."""
    path = turn.images[number]
    pixels = _load(turn, path)
    height, width = pixels.shape[:2]
    source = turn.records[number].objects if turn.dialogue is None else None
    outcome = drawn.annotation
    labelled = turn.mode is Mode.DENSE and source is not None
    before = _picture(pixels, source if labelled else None, share)
    after = _picture(render(pixels, drawn), outcome if labelled else None, share)
    happened = [tag("li", str(event)) for event in events(drawn, width, height)] or [tag("li", "unchanged")]
    size = f"{outcome.width} × {outcome.height}"
    return tag(
        "div",
        figure(before, f"{path.name} before", f"Before: {path.name}, {width} × {height}"),
        figure(
            after,
            f"{path.name} after",
            f"After: {size}" + ("" if turn.mode is not Mode.SUMMARY else "; a summary has no labels"),
            tag("ul", *happened, class_="events"),
            *(tag("p", text) for text in _losses(source, drawn)),
        ),
        class_="pair",
    )


def _losses(source: Annotation | None, drawn: Drawn) -> list[str]:
    """How many objects are kept, which are dropped, and which the canvas cuts."""
    if source is None:
        return []
    dropped = [desc for index, desc in enumerate(source.descs) if index not in set(drawn.kept)]
    cut = [
        f"{desc} {cover:.0%}"
        for desc, cover in zip(drawn.annotation.descs, drawn.coverage, strict=True)
        if cover < WHOLE
    ]
    return [
        f"Objects: {len(drawn.kept)} of {len(source.descs)} kept" + (", none cut" if drawn.kept and not cut else ""),
        *([f"Dropped: {'; '.join(dropped)}"] if dropped else []),
        *([f"Cut, share left: {'; '.join(cut)}"] if cut else []),
    ]


def _conversation(line: Source, turn: Turn, drawn: tuple[Drawn, ...]) -> list[Html]:
    """Every stretch of the rendered conversation, folded; the supervised ones are answers."""
    pad = line.encoder.processor.image_token
    sizes = [(image.annotation.width, image.annotation.height) for image in drawn]
    counts = iter(line.encoder.image_tokens(sizes))
    parts = []
    for segment in line.encoder.segments(line.messages(turn, drawn)):
        texts = segment.text.split(pad)
        text = texts[0] + "".join(f"{pad}×{next(counts)}{rest}" for rest in texts[1:])
        name = "Answer (supervised)" if segment.supervised else "Prompt"
        parts.append(folded(name, tag("pre", text, class_="answer" if segment.supervised else None)))
    return parts


def figure(data: str, alt: str, title: str, *more: Html) -> Html:
    """A picture that a click enlarges, with its caption."""
    caption = tag("figcaption", tag("strong", title), *more)
    # A picture whose box is ticked fills the window: a click enlarges it, without a script.
    return tag("figure", tag("label", tag("input", type="checkbox"), tag("img", src=data, alt=alt)), caption)


def _picture(pixels: NDArray[np.uint8], labels: Annotation | None, share: int) -> str:
    """A data URI of the picture with its labels."""
    shapes, descs = (labels.shapes, labels.descs) if labels else (Shapes.build([]), ())
    return embedded(drawing.draw(pixels, shapes, descs), share)


def embedded(image: NDArray[np.uint8], share: int) -> str:
    """A data URI of an RGB image as JPEG, shrunk until it has at most `share` bytes (or the smallest side)."""
    for side in SIDES:
        data = _jpeg(image, side)
        if len(data) <= share:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _jpeg(image: NDArray[np.uint8], side: int) -> bytes:
    """JPEG of an RGB image, shrunk to a longer side of at most `side` pixels."""
    factor = min(1.0, side / max(image.shape[:2]))
    size = [max(1, round(length * factor)) for length in image.shape[1::-1]]
    bgr = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    # Without chroma subsampling, which would blur coloured lines and text.
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY, *sampling])[1].tobytes()


def _load(turn: Turn, path: Path) -> NDArray[np.uint8]:
    try:
        return images.load(path)
    except images.ImageError as error:
        raise InputError(f"{turn.place}: images: {error}") from error
