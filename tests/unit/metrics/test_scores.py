"""Scores by hand, by property, and against pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvlm.geometry.shapes import Kind, Shapes
from dvlm.metrics import words
from dvlm.metrics.box_ap import NAMES, box_ap, coco
from dvlm.metrics.matching import match
from dvlm.metrics.scores import scores
from dvlm.metrics.similarity import LINE_RADIUS, diagonal, localisation_error, similarities
from dvlm.metrics.sums import dense, summary
from dvlm.values import Annotation

WIDTH, HEIGHT = 300, 400  # a diagonal of 500
Object = tuple[Kind, list[float], str]


def annotation(*objects: Object) -> Annotation:
    return Annotation(
        WIDTH, HEIGHT, Shapes.build((kind, flat) for kind, flat, _ in objects), tuple(desc for *_, desc in objects)
    )


def values(*images: dict[str, float]) -> dict[str, float]:
    return {name: score.value for name, score in scores(images, resamples=0).items()}


def box(x: float, y: float, side: float = 10, desc: str = "BBU设备/品牌:华为") -> Object:
    return Kind.BBOX, [x, y, x + side, y + side], desc


TRUTH = annotation(
    box(0, 0),
    box(100, 0, desc="光模块/颜色:蓝"),
    (Kind.QUAD, [50, 50, 90, 50, 90, 90, 50, 90], "标签/文字:A12"),
    (Kind.LINE, [0, 300, 100, 300], "线缆/颜色:红"),
)


def test_by_hand():
    """One box off by 2 of 10 pixels (IoU 8/12), one box told twice, a quad missed, a line with another colour."""
    told = annotation(
        box(2, 0, desc="BBU设备/品牌:中兴"),
        box(100, 0, desc="光模块/颜色:蓝"),
        box(100, 0, desc="光模块/颜色:蓝"),
        (Kind.LINE, [0, 300, 100, 300], "线缆/颜色:黑"),
    )
    found = values(dense(told, TRUTH))
    assert found["precision_bbox"] == pytest.approx(2 / 3)
    assert found["recall_bbox"] == 1
    assert found["f1_bbox"] == pytest.approx(4 / 5)
    # 8/12 is at least 0.50, 0.55, 0.60 and 0.65: two pairs at four thresholds of ten, one at the others.
    assert found["mean_f1_bbox"] == pytest.approx((4 * 4 / 5 + 6 * 2 / 5) / 10)
    assert found["hallucinated_bbox"] == pytest.approx(1 / 3)
    assert found["missed_quad"] == 1
    assert "precision_quad" not in found
    assert found["f1_line"] == 1
    assert found["localisation_error_bbox"] == pytest.approx((2 / 500 + 0) / 2)
    assert found["desc_exact_bbox"] == 0.5
    assert found["desc_exact"] == pytest.approx(1 / 3)
    assert found["attribute/品牌"] == 0
    assert found["attribute/颜色"] == 0.5
    assert found["class/光模块/precision"] == 0.5
    assert found["class/标签/recall"] == 0
    assert found["caption_f1"] == pytest.approx(2 * 3 / (4 + 4))


def test_a_pair_needs_one_kind_and_for_captions_one_class():
    told = annotation((Kind.QUAD, [0, 0, 10, 0, 10, 10, 0, 10], "BBU设备"), box(100, 0, desc="标签"))
    found = values(dense(told, TRUTH))
    assert found["f1_quad"] == 0
    assert found["recall_bbox"] == 0.5
    assert found["caption_f1"] == 0


def test_most_pairs_come_before_close_ones():
    alike = np.array([[1.0, 0.6], [0.6, 0.1]])
    assert match(alike, 0.5) == [(0, 1), (1, 0)]
    assert match(alike, 0.7) == [(0, 0)]


def test_lines_are_compared_as_bands():
    """At the radius beside each other two bands share a third, up to their round ends."""
    reach = LINE_RADIUS * diagonal(WIDTH, HEIGHT)
    lines = Shapes.build([(Kind.LINE, [0, 100, 290, 100]), (Kind.LINE, [0, 100 + reach, 290, 100 + reach])])
    alike = similarities(Kind.LINE, lines, lines, diagonal(WIDTH, HEIGHT))
    assert alike[0, 0] == pytest.approx(1)
    assert alike[0, 1] == pytest.approx(1 / 3, abs=0.03)
    error = localisation_error(Kind.LINE, lines.of(0), lines.of(1), 500)
    assert error == pytest.approx(reach / 500)


def test_a_quad_may_start_at_any_corner():
    points = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)
    assert localisation_error(Kind.QUAD, np.roll(points, 2, 0), points, 500) == 0


def test_summaries_by_hand():
    found = values(summary("光模块×3/线缆", "光模块×2/线缆×1/BBU设备×1"), summary("标签×2", "标签×2"))
    assert words.counts("光模块×3/线缆") == {"光模块": 3, "线缆": 1}
    assert found["count_error"] == pytest.approx((1 + 1) / (4 + 2))
    assert found["summary_exact"] == 0.5
    assert found["summary_counts_exact"] == 0.5


def test_words():
    assert words.class_of("BBU设备/品牌:华为/型号:5900") == "BBU设备"
    assert words.attributes("BBU设备/品牌:华为/型号：5900/显示完整") == {"品牌": "华为", "型号": "5900", "": "显示完整"}
    assert words.character_f1("华为", "华中") == 0.5
    assert words.character_f1("", "") == 1


def test_answers_that_failed_are_counted():
    found = values({"answers": 1, "failures": 1}, {"answers": 1}, {"answers": 1, "truncated": 1})
    assert found["parse_failures"] == found["truncated"] == pytest.approx(1 / 3)


def test_intervals_hold_the_value_and_shrink_with_more_images():
    images = [dense(annotation(box(0, 0), *([box(200, 200)] if i % 3 else [])), TRUTH) for i in range(12)]
    few, many = scores(images)["f1_bbox"], scores(images * 16)["f1_bbox"]
    assert few.low < few.value < few.high
    assert many.value == pytest.approx(few.value)
    assert many.high - many.low < (few.high - few.low) / 2
    assert scores(images)["f1_bbox"] == few


coordinates = st.integers(0, 250)
descs = st.sampled_from(["BBU设备/品牌:华为", "BBU设备/品牌:中兴", "线缆/颜色:红", "标签/文字:A12"])
boxes = st.builds(
    lambda x, y, w, h, desc: (Kind.BBOX, [x, y, x + w, y + h], desc),
    coordinates, coordinates, st.integers(1, 50), st.integers(1, 100), descs,
)  # fmt: skip
quads = st.builds(
    lambda x, y, s, t, desc: (Kind.QUAD, [x, y, x + s, y + t, x + s - t, y + s + t, x - t, y + s], desc),
    coordinates, coordinates, st.integers(5, 40), st.integers(0, 4), descs,
)  # fmt: skip
lines = st.builds(
    lambda flat, desc: (Kind.LINE, flat, desc),
    st.lists(coordinates, min_size=4, max_size=10).filter(lambda flat: len(flat) % 2 == 0 and len(set(flat)) > 2),
    descs,
)
objects = st.lists(boxes | quads | lines, min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(objects)
def test_a_perfect_answer_scores_one(found):
    truth = annotation(*found)
    for name, value in values(dense(truth, truth)).items():
        worst = name.startswith(("hallucinated", "missed", "localisation_error"))
        if not name.startswith(("desc", "attribute", "class", "caption")) or len(found) == 1:
            assert value == pytest.approx(0 if worst else 1, abs=1e-6), name
    assert values(dense(truth, truth))["caption_f1"] == 1


@settings(max_examples=60, deadline=None)
@given(objects, objects, st.randoms())
def test_the_order_of_objects_changes_no_count(told, truth, random):
    mixed, others = random.sample(told, len(told)), random.sample(truth, len(truth))
    first = dense(annotation(*told), annotation(*truth))
    second = dense(annotation(*mixed), annotation(*others))
    counted = [name for name in first if name.startswith(("told", "truth", "pairs", "class"))]
    assert {name: first[name] for name in counted} == {name: second[name] for name in counted}


@settings(max_examples=60, deadline=None)
@given(boxes, st.lists(st.integers(1, 40), min_size=2, max_size=4))
def test_a_box_that_moves_away_is_less_alike(found, shifts):
    kind, flat, _ = found
    moved = [np.add(flat, [shift, 0, shift, 0]).tolist() for shift in np.cumsum([0, *shifts])]
    alike = similarities(kind, Shapes.build((kind, each) for each in moved), Shapes.build([(kind, flat)]), 500)[:, 0]
    assert alike[0] == 1
    assert (np.diff(alike) <= 1e-12).all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.lists(boxes, max_size=5), st.lists(boxes, min_size=1, max_size=5)), min_size=1, max_size=4)
)
def test_box_ap_is_that_of_pycocotools(images):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    pairs = [(annotation(*told), annotation(*truth)) for told, truth in images]
    confidences = [list(np.random.default_rng(number).random(len(told))) for number, (told, _) in enumerate(images)]
    truth, told = coco(pairs, confidences)
    if not told:
        assert box_ap(pairs, confidences) == dict.fromkeys(NAMES, 0.0)
        return
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(told), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert box_ap(pairs, confidences) == pytest.approx(dict(zip(NAMES, evaluation.stats, strict=False)), abs=1e-6)


def test_box_ap_by_hand():
    """An overlap of 0.62 counts at the thresholds 0.5, 0.55 and 0.6 of ten; another class never does."""
    truth = annotation((Kind.BBOX, [20, 30, 30, 35], "BBU设备"))
    told = (Kind.BBOX, [20, 30, 26.2, 35], "BBU设备/品牌:华为")
    assert box_ap([(annotation(told), truth)]) == pytest.approx({"ap": 0.3, "ap50": 1, "ap75": 0})
    assert box_ap([(annotation((*told[:2], "标签")), truth)]) == dict.fromkeys(NAMES, 0)
