"""Drawing: outlines where the shapes are, labels that can be read, files that are whole."""

import os

import cv2
import numpy as np
import pytest

from dvlm import drawing
from dvlm.data.demo import scene
from dvlm.data.demo_paint import paint
from dvlm.drawing import draw, put_text, save_png, side_by_side, text_size, type_colour
from dvlm.geometry.shapes import Kind, Shapes

GREY = np.full((100, 120, 3), 128, np.uint8)
FACTOR = 8  # 960 / 120
BOX = Shapes.build([(Kind.BBOX, [30, 40, 90, 80])])


def near(image, point, colour):
    """Whether `colour` occurs within 3 pixels of `point` (x, y)."""
    x, y = (round(value) for value in point)
    patch = image[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].astype(int)
    return bool((np.abs(patch - colour).max(axis=2) < 40).any())


def test_the_outline_lies_on_the_shape():
    quad = [20, 20, 60, 30, 55, 60, 15, 50]
    line = [70, 20, 110, 40, 80, 90]
    shapes = Shapes.build([(Kind.BBOX, [30, 40, 90, 80]), (Kind.QUAD, quad), (Kind.LINE, line)])
    red, green, blue = (220, 0, 0), (0, 160, 0), (0, 0, 220)
    for index, (colour, closed) in enumerate(zip((red, green, blue), (True, True, False), strict=True)):
        image = draw(GREY, shapes.take([index]), [""], colour=colour)
        points = shapes.of(index)
        if index == 0:
            (x1, y1), (x2, y2) = points
            points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        ends = np.roll(points, -1, axis=0) if closed else points[1:]
        for start, end in zip(points, ends, strict=closed):
            for t in (0.2, 0.5, 0.8):
                assert near(image, (start + t * (end - start)) * FACTOR, colour)
        middle = (points[0] + points[-1]) / 2 * FACTOR
        assert near(image, middle, colour) == closed


def test_small_pictures_grow_by_a_whole_factor_and_large_ones_stay():
    before = GREY.copy()
    assert draw(GREY, BOX, ["甲"]).shape == (100 * FACTOR, 120 * FACTOR, 3)
    np.testing.assert_array_equal(GREY, before)
    large = np.zeros((700, 1000, 3), np.uint8)
    assert draw(large, BOX, ["甲"]).shape == large.shape
    assert not large.any()


def test_the_title_is_a_strip_on_top():
    plain, titled = draw(GREY, BOX, ["甲"]), draw(GREY, BOX, ["甲"], title="步骤 100")
    np.testing.assert_array_equal(titled[-len(plain) :], plain)
    strip = titled[: -len(plain)]
    assert (strip < 100).any()
    assert (strip[0] == drawing.PAPER).all()


def test_descriptions_are_written():
    pictures = [draw(GREY, BOX, [desc]) for desc in ("线缆/颜色:蓝", "线缆/颜色:红")]
    assert 10 < (pictures[0] != pictures[1]).any(axis=2).sum() < 2000


def test_chinese_glyphs_differ_and_fit_their_size():
    painted = []
    for text in "华为中兴":
        w, h = text_size(text, 32)
        image = np.zeros((h + 40, w + 40, 3), np.uint8)
        put_text(image, text, (20, 20), (255, 255, 255), 32)
        rows, columns = np.nonzero(image[..., 0] > 60)
        assert rows.min() >= 20
        assert rows.max() < 20 + h
        assert columns.min() >= 20
        assert columns.max() < 20 + w
        painted.append(image[:60, :60].tobytes())
    assert len(set(painted)) == 4


def test_line_breaks_in_an_answer_do_not_leave_the_label():
    assert text_size("甲\n乙\x00丙", 20) == text_size("甲 乙 丙", 20)


def placed(monkeypatch, image, shapes, descs):
    """The boxes of all labels that `draw` writes, and the size of the drawing."""
    boxes = []
    monkeypatch.setattr(drawing, "_write", lambda canvas, label, *rest: boxes.append(label))
    drawn = draw(image, shapes, descs)
    return np.array(boxes), drawn.shape


def overlaps(boxes):
    """The pairs of boxes that overlap."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=2)
    return np.argwhere(np.triu(shared, 1) > 0.1 * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).min())


def test_labels_of_a_picture_do_not_overlap(monkeypatch):
    for index in range(20):
        picture = scene(split="train", index=index)
        shapes = Shapes.build((item.role.kind, np.ravel(item.points).tolist()) for item in picture.items)
        descs = [item.desc(picture.domain) for item in picture.items]
        boxes, shape = placed(monkeypatch, paint(picture), shapes, descs)
        assert len(boxes) == len(descs)
        assert not len(overlaps(boxes))
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= (shape[1], shape[0])).all()


def test_labels_of_equal_shapes_do_not_overlap(monkeypatch):
    boxes, _ = placed(monkeypatch, GREY, BOX.take([0] * 8), ["BBU设备/品牌:华为/型号:5900"] * 8)
    assert len(boxes) == 8
    assert not len(overlaps(boxes))


def test_wild_answers_are_drawn():
    wild = Shapes.build([(Kind.BBOX, [-1e12, 5, 1e12, 9]), (Kind.LINE, [500, 500, 900, 900]), (Kind.QUAD, [3, 3] * 4)])
    image = draw(GREY, wild, ["", "很长的说明" * 60, "�😀\n"], title="标题" * 200)
    assert image.shape[1] == 120 * FACTOR
    assert draw(GREY[:1, :1], BOX, ["甲"]).shape == (8, 8, 3)
    assert draw(GREY, Shapes.build([]), []).shape == (800, 960, 3)


def test_a_type_has_one_colour():
    assert type_colour("线缆/颜色:蓝") == type_colour("线缆") != type_colour("标签/文字:A12")
    image = draw(GREY, BOX, ["线缆/颜色:蓝"])
    assert near(image, (60 * FACTOR, 80 * FACTOR), type_colour("线缆"))


@pytest.mark.parametrize(
    ("image", "descs", "message"),
    [
        (GREY, [], "got 0 for 1"),
        (GREY.astype(float), ["甲"], "float64"),
        (GREY[..., 0], ["甲"], r"\(100, 120\)"),
        (GREY[:0], ["甲"], r"\(0, 120, 3\)"),
    ],
)
def test_wrong_input_is_named(image, descs, message):
    with pytest.raises(ValueError, match=message):
        draw(image, BOX, descs)


def test_points_must_be_finite():
    with pytest.raises(ValueError, match="finite"):
        draw(GREY, Shapes.build([(Kind.BBOX, [0, 0, float("nan"), 5])]), ["甲"])


def test_side_by_side_pads_the_shorter():
    left, right = np.full((200, 300, 3), 10, np.uint8), np.full((120, 260, 3), 20, np.uint8)
    both = side_by_side([left, right], ["真值", "回答"])
    assert both.shape[1] == 300 + 8 + 260
    assert (both[-200:, :300] == 10).all()
    column = both[:, 308 + 130, 0]
    assert (column == 20).sum() == 120
    assert column[-1] == drawing.PAPER[0]
    with pytest.raises(ValueError, match="2 and 1"):
        side_by_side([left, right], ["真值"])
    with pytest.raises(ValueError, match="0 and 0"):
        side_by_side([], [])


def test_a_png_survives_any_path(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    path = tmp_path / "样本 a=1,b(2)" / ("图" * 80 + ".png")
    save_png(path, image)
    back = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(back, image)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save_png(path, GREY)
    before = path.read_bytes()

    def full(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        save_png(path, GREY + 1)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
