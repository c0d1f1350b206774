"""The new op that docs/extending.md shows, taken from the page."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from dvlm.augmentation.op import OPS
from dvlm.augmentation.pipeline import Pipeline
from dvlm.augmentation.render import render
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import Annotation

PAGE = (Path(__file__).parents[3] / "docs" / "extending.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## A new augmentation")[1].split("\n## ")[0]


def block(language: str) -> str:
    """The first fenced block of the section in that language."""
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.S)[0]


@pytest.fixture
def shear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict]]:
    """The op as a file of its own, imported for one test, and its YAML."""
    (tmp_path / "shear_of_the_page.py").write_text(block("python"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("shear_of_the_page")
    yield yaml.safe_load(block("yaml"))["ops"]
    del OPS["shear"], sys.modules["shear_of_the_page"]


def test_it_takes_ten_lines() -> None:
    lines = [line for line in block("python").splitlines() if line]
    assert len(lines[lines.index('@register("shear")') :]) == 10


def test_labels_and_pixels_follow_it(shear: list[dict]) -> None:
    shear[0]["params"]["prob"] = 1.0
    shapes = Shapes.build([(Kind.BBOX, [40, 20, 60, 60])])
    (drawn,) = Pipeline.build(shear).draw([Annotation(100, 80, shapes, ("a",))], np.random.default_rng(0))
    label = drawn.annotation.shapes
    assert label.kind(0) is Kind.QUAD
    image = np.full((80, 100, 3), 128, np.uint8)
    image[20:60, 40:60] = 255
    rows, columns = np.nonzero(render(image, drawn)[..., 0] > 191)
    assert [columns.mean() + 0.5, rows.mean() + 0.5] == pytest.approx(label.of(0).mean(axis=0), abs=0.3)
    assert label.of(0)[0, 0] != label.of(0)[3, 0]


def test_its_errors_read_as_on_the_page(shear: list[dict]) -> None:
    messages = block("text").strip().splitlines()
    for params, message in zip(({"max_shear": 0.2}, {"max_share": 2}), messages, strict=True):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Pipeline.build([{"name": "shear", "params": params}])
