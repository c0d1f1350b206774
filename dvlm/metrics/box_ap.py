"""COCO average precision of boxes, by faster-coco-eval.

An answer is a list without confidences: every box gets the score 1 unless scores are given, so that AP here measures
one operating point, with COCO's matching by class.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from dvlm.geometry.shapes import Kind
from dvlm.metrics.words import class_of
from dvlm.values import Annotation

NAMES = ("ap", "ap50", "ap75")  # the first three of COCO's statistics


def box_ap(
    pairs: Sequence[tuple[Annotation, Annotation]], scores: Sequence[Sequence[float]] | None = None
) -> dict[str, float]:
    """`ap` (0.5:0.95), `ap50` and `ap75` over (told, truth) of each image; {} where no image has a true box.

    `scores`: one confidence for each told shape of each image.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    truth, told = coco(pairs, scores)
    if not truth["annotations"]:
        return {}
    if not told:
        return dict.fromkeys(NAMES, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(truth)
        evaluation = COCOeval_faster(reference, reference.loadRes(told), "bbox", print_function=lambda *_: None)
        evaluation.run()
    return {name: float(value) for name, value in zip(NAMES, evaluation.stats[: len(NAMES)], strict=True)}


def coco(
    pairs: Sequence[tuple[Annotation, Annotation]], scores: Sequence[Sequence[float]] | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The true boxes as a COCO data set, the told ones as COCO results; a category is the class of a description."""
    classes = sorted({class_of(desc) for pair in pairs for side in pair for desc in side.descs})
    ids = {name: number for number, name in enumerate(classes, 1)}
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, (told, truth) in enumerate(pairs, 1):
        for box, desc, _ in _boxes(truth):
            area = float(box[2] * box[3])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": ids[class_of(desc)],
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                }
            )
        for box, desc, index in _boxes(told):
            score = 1.0 if scores is None else float(scores[image - 1][index])
            results.append({"image_id": image, "category_id": ids[class_of(desc)], "bbox": box, "score": score})
    images = [
        {"id": number, "width": truth.width, "height": truth.height, "file_name": str(number)}
        for number, (_, truth) in enumerate(pairs, 1)
    ]
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}, results


def _boxes(annotation: Annotation) -> list[tuple[list[float], str, int]]:
    """(x, y, width, height), description and index of each box."""
    found = []
    for index in np.flatnonzero(annotation.shapes.kinds == Kind.BBOX):
        x1, y1, x2, y2 = annotation.shapes.of(int(index)).reshape(-1).tolist()
        found.append(([x1, y1, x2 - x1, y2 - y1], annotation.descs[int(index)], int(index)))
    return found
