"""The labels match the pixels: what is painted before an augmentation is where the label says, after it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from painting import CHANNELS, corners, coverage, paint, painted

from dvlm.augmentation.pipeline import Pipeline
from dvlm.augmentation.render import FILL, render
from dvlm.augmentation.steps import shown
from dvlm.geometry.order import signed_area
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.geometry.window import edge_distances
from dvlm.values import Annotation, Drawn

bounded = settings(
    derandomize=True, deadline=None, max_examples=40, database=None, suppress_health_check=list(HealthCheck)
)


def item(name: str, **params: object) -> st.SearchStrategy[dict]:
    """An op of a YAML file, with parameters that are values or strategies."""
    drawn = {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in params.items()}
    return st.fixed_dictionaries({"name": st.just(name), "params": st.fixed_dictionaries(drawn)})


GEOMETRIC = {
    "hflip": item("hflip", prob=1.0),
    "vflip": item("vflip", prob=1.0),
    "rotate": item("rotate", prob=1.0, max_deg=st.sampled_from([5.0, 15.0, 45.0, 180.0])),
    "scale": item("scale", prob=1.0, lo=st.floats(0.6, 1.0), hi=st.floats(1.0, 1.5)),
    "random_crop": item(
        "random_crop", prob=1.0, scale=(0.3, 1.0), min_objects=0, skip_if_line=False, min_coverage=st.floats(0, 0.5)
    ),
    "resize_by_scale": item("resize_by_scale", prob=1.0, lo=0.6, hi=1.5, align_multiple=st.sampled_from([1, 32])),
    "expand_to_fit_affine": item(
        "expand_to_fit_affine", multiple=st.sampled_from([1, 32]), max_pixels=st.sampled_from([None, 200 * 200])
    ),
    "pad_to_multiple": item(
        "pad_to_multiple", multiple=st.sampled_from([1, 32]), max_pixels=st.sampled_from([None, 200 * 200])
    ),
}
COLOURS = ["color_jitter", "gamma", "hsv", "clahe", "sharpness", "auto_contrast", "blur", "noise"]


@st.composite
def scenes(draw: st.DrawFn) -> Annotation:
    """One to three shapes, each inside an image of 100 to 300 pixels a side."""
    width, height = draw(st.integers(100, 300)), draw(st.integers(100, 300))
    makers = {Kind.BBOX: box, Kind.QUAD: quad, Kind.LINE: line}
    shapes = []
    for kind in draw(st.lists(st.sampled_from(list(Kind)), min_size=1, max_size=CHANNELS)):
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        shapes.append((kind, makers[kind](width, height, rng).reshape(-1).tolist()))
    return Annotation(width, height, Shapes.build(shapes), tuple(f"物体{index}" for index in range(len(shapes))))


def box(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float64]:
    size = np.floor(rng.uniform(0.1, 1, 2) * [width, height])
    corner = np.floor(rng.uniform(0, 1, 2) * ([width, height] - size))
    return np.stack([corner, corner + size])


def quad(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A tilted rectangle with its corners shaken, all inside."""
    across, up = rng.uniform(0.15, 0.7), rng.uniform(0.15, 0.7)
    unit = np.array([[-across, -up], [across, -up], [across, up], [-across, up]])
    unit = unit * rng.uniform(0.8, 1.2, (4, 2))
    angle = rng.uniform(-np.pi, np.pi)
    turned = unit @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    low, high = turned.min(axis=0), turned.max(axis=0)
    side = min(width, height) * rng.uniform(0.3, 0.95) / (high - low).max()
    corner = rng.uniform(0, 1, 2) * ([width, height] - (high - low) * side)
    return (turned - low) * side + corner


def line(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform([4, 4], [width - 4, height - 4], (rng.integers(2, 7), 2))


@pytest.mark.parametrize("name", GEOMETRIC)
def test_every_op_alone(name: str) -> None:
    @bounded
    @given(scenes(), GEOMETRIC[name], st.integers(0, 2**32))
    def holds(annotation: Annotation, op: dict, seed: int) -> None:
        check(annotation, [op], seed)

    holds()


@settings(bounded, max_examples=150)
@given(scenes(), st.lists(st.one_of(*GEOMETRIC.values()), min_size=2, max_size=5), st.integers(0, 2**32))
def test_random_chains(annotation: Annotation, ops: list[dict], seed: int) -> None:
    check(annotation, ops, seed)


@bounded
@given(scenes(), st.lists(st.one_of(*GEOMETRIC.values()), max_size=3), st.sampled_from(COLOURS), st.integers(0, 2**32))
def test_colour_ops_leave_geometry_alone(annotation: Annotation, ops: list[dict], colour: str, seed: int) -> None:
    plain = Pipeline.build(ops).draw([annotation], np.random.default_rng(seed))[0]
    ops = [*ops, {"name": colour, "params": {"prob": 1.0}}]
    coloured = Pipeline.build(ops).draw([annotation], np.random.default_rng(seed))[0]
    assert coloured.annotation.shapes.points.tobytes() == plain.annotation.shapes.points.tobytes()
    assert (coloured.annotation.width, coloured.annotation.height) == (plain.annotation.width, plain.annotation.height)
    assert coloured.steps[:-1] == plain.steps


def check(annotation: Annotation, ops: list[dict], seed: int) -> None:
    """Draw, render and compare every label that is left with what was painted."""
    (drawn,) = Pipeline.build(ops).draw([annotation], np.random.default_rng(seed))
    image = render(paint(annotation.shapes, annotation.width, annotation.height), drawn)
    result = drawn.annotation
    assert image.shape == (result.height, result.width, CHANNELS)
    assert (result.shapes.points >= 0).all()
    assert (result.shapes.points <= [result.width, result.height]).all()
    assert len(result.shapes) == len(result.descs) == len(drawn.kept) == len(drawn.coverage)
    for index, source in enumerate(drawn.kept):
        assert result.descs[index] == annotation.descs[source]
        if result.shapes.kind(index) is Kind.LINE:
            check_line(annotation, drawn, image, index)
        else:
            check_area(drawn, image, index)


def check_area(drawn: Drawn, image: NDArray[np.uint8], index: int) -> None:
    label = corners(drawn.annotation.shapes, index)
    assert signed_area(label) >= -1e-9  # of a label without area the sign is rounding
    pixels = painted(image, drawn.kept[index])
    share = coverage(label, drawn.annotation.width, drawn.annotation.height)
    if drawn.coverage[index] < 1:
        assert outside(pixels, label) <= 0.02 * pixels.sum()
        return
    shorter = shorter_side(label)
    overlap = (pixels & (share >= 0.5)).sum() / max((pixels | (share >= 0.5)).sum(), 1)
    if shorter >= 20:
        assert overlap >= (0.97 if shorter >= 80 else 0.9)
        # Far stricter than the overlap of a large shape: a shift by half a pixel shows.
        assert np.abs(centroid(image[..., drawn.kept[index]]) - centroid(share * 255 + FILL)).max() <= 0.2


def check_line(annotation: Annotation, drawn: Drawn, image: NDArray[np.uint8], index: int) -> None:
    vertices = drawn.annotation.shapes.of(index)
    if drawn.coverage[index] == 0:
        return
    rows, columns = np.nonzero(image[..., drawn.kept[index]] > (FILL + 255) / 2 - 40)
    centres = np.stack([columns, rows], axis=1) + 0.5
    for vertex in vertices:
        assert np.linalg.norm(centres - vertex, axis=1).min() <= 1.5
    if drawn.coverage[index] == 1:
        before = annotation.shapes.of(drawn.kept[index])
        assert len(before) == len(vertices)
        check_vertices(annotation, before, vertices, drawn)


def check_vertices(annotation: Annotation, before: NDArray, after: NDArray, drawn: Drawn) -> None:
    """Each vertex goes where a small square that is painted around it goes."""
    for first in range(0, len(before), CHANNELS):
        dots = Shapes.build(
            (Kind.BBOX, np.concatenate([vertex - 3, vertex + 3])) for vertex in before[first : first + CHANNELS]
        )
        image = render(paint(dots, annotation.width, annotation.height), drawn)
        for channel, vertex in enumerate(after[first : first + CHANNELS]):
            window = shown(drawn.steps, annotation.width, annotation.height)
            if edge_distances(vertex[None], window).min() > 12:  # the whole square is seen
                assert np.abs(centroid(image[..., channel]) - vertex).max() <= 0.3


def centroid(values: NDArray) -> NDArray[np.float64]:
    """The centre of mass (2,) of what is brighter than the fill."""
    mass = np.maximum(values.astype(float) - FILL, 0)
    x, y = np.arange(values.shape[1]) + 0.5, np.arange(values.shape[0]) + 0.5
    return np.array([mass.sum(axis=0) @ x, mass.sum(axis=1) @ y]) / mass.sum()


def outside(pixels: NDArray[np.bool_], label: NDArray[np.float64]) -> int:
    """How many pixels have their centre further than half a pixel, their own reach, from a convex label (4, 2)."""
    rows, columns = np.nonzero(pixels)
    centres = np.stack([columns, rows], axis=1) + 0.5
    away = np.full(len(centres), -np.inf)
    for start, end in zip(label, np.roll(label, -1, axis=0), strict=True):
        way = end - start
        if np.linalg.norm(way) > 1e-6:
            normal = np.array([way[1], -way[0]]) / np.linalg.norm(way)
            away = np.maximum(away, (centres - start) @ normal)
    return int((away > 0.5 + 1e-6).sum())


def shorter_side(label: NDArray[np.float64]) -> float:
    """Of a quad (4, 2): the shortest side, or the breadth across the longest if that is less."""
    sides = np.linalg.norm(np.roll(label, -1, axis=0) - label, axis=1)
    return float(min(sides.min(), signed_area(label) / sides.max()))
