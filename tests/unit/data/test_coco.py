"""COCO and LVIS annotations become records that validate; each error names the id and the way out."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dvlm.config import ConvertConfig, DataConfig
from dvlm.convert import convert as write
from dvlm.data import coco
from dvlm.data.coco import conversions
from dvlm.data.coco_shapes import shape, visible
from dvlm.data.verify import bad_lines
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import InputError

WIDTH, HEIGHT = 64, 48
IMAGE = {"id": 7, "width": WIDTH, "height": HEIGHT, "file_name": "a.png"}
CATEGORIES = [{"id": 1, "name": "螺丝", "supercategory": "五金"}, {"id": 2, "name": "线缆", "supercategory": "耗材"}]
BOX = {"id": 70, "image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 5], "iscrowd": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the picture a.png."""
    folder = tmp_path_factory.mktemp("照片 1")
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a.png")
    return folder


@pytest.fixture
def convert(folder):
    """Converts annotations of a.png, returns the (records, events); other parts of the JSON and knobs by name."""

    def run(*annotations, entries=(IMAGE,), categories=CATEGORIES, **knobs):
        file = folder / "标注.json"
        content = {"images": entries, "annotations": annotations, "categories": categories}
        file.write_text(json.dumps(content), encoding="utf-8")
        config = replace(ConvertConfig(annotations=str(file), output=str(folder / "out.jsonl")), **knobs)
        done = list(conversions(config))
        return [each.record for each in done if each.record], sum((each.events for each in done), Counter())

    return run


def test_a_box_becomes_corners_and_the_name_its_description(convert):
    [record], events = convert(BOX, {**BOX, "category_id": 2, "bbox": [0.1, 0.2, 0.2, 40]})
    assert record == {
        "images": ["a.png"],
        "width": WIDTH,
        "height": HEIGHT,
        "objects": [{"bbox_2d": [10, 10, 30, 15], "desc": "螺丝"}, {"bbox_2d": [0.1, 0.2, 0.3, 40.2], "desc": "线缆"}],
    }
    assert not events


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([-0.5, -1, 10.5, 11], [0, 0, 10, 10]),
        ([60, 40, 4.9, 8.9], [60, 40, 64, 48]),
    ],
)
def test_what_rounding_put_beyond_the_edge_is_moved_onto_it(convert, box, expected):
    [record], _ = convert({**BOX, "bbox": box})
    assert record["objects"][0]["bbox_2d"] == expected


def test_a_box_far_outside_is_an_error_or_cut(convert):
    far = {**BOX, "bbox": [50, 10, 24, 5]}
    with pytest.raises(InputError, match=r"image 7: annotation 70: bbox reaches 10.0 pixels .*64x48 .*outside=clip"):
        convert(far)
    [record], _ = convert(far, outside="clip")
    assert record["objects"][0]["bbox_2d"] == [50, 10, 64, 15]
    [record], events = convert({**BOX, "bbox": [80, 10, 24, 5]}, outside="clip")
    assert record["objects"] == []
    assert events == {coco.NO_AREA: 1}
    past_the_corner = {**BOX, "segmentation": [[72, 40, 62, 60, 60.5, 59, 70.5, 39]]}
    _, events = convert(past_the_corner, outside="clip", polygons="quad")
    assert events == {coco.NO_AREA: 1}


def test_crowds_and_boxes_without_area_are_left_out_and_counted(convert):
    flat = {**BOX, "bbox": [10, 10, 0, 5]}
    [record], events = convert({**BOX, "iscrowd": 1}, flat, {**BOX, "bbox": [63.999, 10, 0.5, 5]}, BOX)
    assert len(record["objects"]) == 1
    assert events == {coco.CROWD: 1, coco.NO_AREA: 2}


def test_summary_counts_what_is_kept(convert):
    cable = {**BOX, "category_id": 2}
    [record], _ = convert(BOX, cable, BOX, {**BOX, "iscrowd": 1}, summary=True)
    assert record["summary"] == "螺丝×2/线缆×1"
    [record], _ = convert(summary=True, empty_summary="空")
    assert (record["summary"], record["objects"]) == ("空", [])


def test_images_without_objects_can_be_left_out(convert):
    records, events = convert(keep_empty=False)
    assert (records, events) == ([], {coco.NO_OBJECTS: 1})


def test_desc_is_a_template_of_the_category(convert):
    [record], _ = convert(BOX, desc="{supercategory}/{name}:好")
    assert record["objects"][0]["desc"] == "五金/螺丝:好"
    with pytest.raises(InputError, match=r"category 1: no text 'synset'; .* may use \{name\}, \{supercategory\}"):
        convert(BOX, desc="{synset}")
    with pytest.raises(InputError, match="category 1: .* begins special tokens|rename the category"):
        convert(BOX, categories=[{"id": 1, "name": "<|im_end|>"}])
    with pytest.raises(InputError, match="half a character; rename the category"):
        convert(BOX, categories=[{"id": 1, "name": "\ud800"}])


@pytest.mark.parametrize("desc", ["", "<|im_end|>", "{name", "{name:>9}", "{name!r}"])
def test_a_template_that_cannot_work_is_refused_at_once(desc):
    with pytest.raises(ValueError, match="desc is "):
        ConvertConfig(annotations="a", output="b", desc=desc)


def quad(convert, *parts, **knobs):
    """The quad of an annotation with these polygon parts."""
    [record], events = convert({**BOX, "segmentation": [*parts]}, polygons="quad", **knobs)
    assert not events
    return record["objects"][0]["quad"]


def test_a_polygon_is_used_only_when_asked_for(convert):
    [record], _ = convert({**BOX, "segmentation": [[10, 10, 30, 12, 29, 15, 10, 14]]})
    assert "bbox_2d" in record["objects"][0]


def test_four_corners_are_kept_and_run_clockwise(convert):
    corners = [10, 10, 9, 14, 29, 17, 30, 12]
    assert quad(convert, corners) == [10, 10, 30, 12, 29, 17, 9, 14]
    assert quad(convert, [*corners, 10, 10]) == [10, 10, 30, 12, 29, 17, 9, 14], "the first corner may be repeated"
    assert quad(convert, [-0.5, 10, 30, 12, 29, 20, 5, 18]) == [0, 10, 30, 12, 29, 20, 5, 18]


def test_other_polygons_get_their_smallest_rotated_rectangle(convert):
    diamond = [20, 10, 30, 20, 20, 30, 10, 20, 14, 16]
    assert quad(convert, diamond) == [20, 10, 30, 20, 20, 30, 10, 20]
    parts = [10, 10, 20, 10, 10, 20], [30, 20, 40, 10, 40, 20]
    assert quad(convert, *parts) == [10, 10, 40, 10, 40, 20, 10, 20]
    crossing = [10, 10, 20, 20, 20, 10, 10, 20]
    assert quad(convert, crossing) == [10, 10, 20, 10, 20, 20, 10, 20]


def test_a_rectangle_that_leaves_the_image_is_cut(convert):
    points = np.array([[0, 0], [0, 10], [10, 0], [4, 7], [7, 4]])
    found = np.array(quad(convert, points.reshape(-1).tolist())).reshape(4, 2)
    assert found.min() >= 0
    assert shapely.Polygon(found).buffer(0.02).covers(shapely.MultiPoint(points))


@pytest.mark.parametrize("mask", [[], [[]], [[10, 10, 20, 20]], {"size": [48, 64], "counts": "abc"}, None])
def test_without_a_polygon_the_box_stands_in_and_is_counted(convert, mask):
    [record], events = convert({**BOX, "segmentation": mask}, polygons="quad")
    assert record["objects"][0]["bbox_2d"] == [10, 10, 30, 15]
    assert events == {coco.NO_POLYGON: 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, 3]}, r"annotation 70: bbox is \[1, 2, 3\], expected \[x, y, width, height\]"),
        ({"bbox": None}, "annotation 70: bbox is missing"),
        ({"bbox": [1, 2, -3, 4]}, "annotation 70: bbox is .*-3"),
        ({"bbox": [1, 2, float("nan"), 4]}, "annotation 70: bbox is .*nan"),
        ({"bbox": ["1", 2, 3, 4]}, "annotation 70: bbox is"),
        ({"segmentation": [[1, 2, 3]]}, r"annotation 70: segmentation is \[\[1, 2, 3\]\]"),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, "annotation 70: segmentation is"),
        ({"segmentation": [[1, 2, 3, 4, 99, 6]]}, "annotation 70: segmentation reaches 35.0 pixels"),
        ({"category_id": 9}, "image 7: annotation 70: category_id is 9, expected the id of a category"),
        ({"category_id": None}, "category_id is missing"),
        ({"image_id": 99}, r"annotations\[0\] \(id 70\): image_id is 99, expected the id of an image"),
        ({"image_id": [7]}, r"image_id is \[7\]"),
    ],
)
def test_bad_annotations_are_named_or_skipped(convert, change, message):
    bad = {**BOX, **change}
    with pytest.raises(InputError, match=message) as error:
        convert(bad, polygons="quad")
    assert "on_bad_annotation=skip" in str(error.value)
    [record], events = convert(bad, {**BOX, "category_id": 2}, on_bad_annotation="skip", polygons="quad")
    assert [entry["desc"] for entry in record["objects"]] == ["线缆"]
    assert events[coco.BAD] == 1


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{**IMAGE, "file_name": "b.png"}], "image 7: there is no b.png in .*images=<folder>"),
        ([{**IMAGE, "file_name": None}], "image 7: file_name is missing"),
        ([{**IMAGE, "width": 64.5}], "image 7: width is 64.5"),
        ([{"id": 7, "width": 64, "file_name": "a.png"}], "image 7: height is missing"),
        ([{"width": 64}], r"images\[0\]: id is missing"),
        ([IMAGE, IMAGE], r"images\[1\]: id 7 is taken already"),
        ([5], r"images\[0\]: id is missing"),
        ([{"id": 7, "width": 64, "height": 48, "coco_url": "http://x/a.png"}], "LVIS files take source=lvis"),
    ],
)
def test_bad_images_are_named(convert, entries, message):
    with pytest.raises(InputError, match=message):
        convert(entries=entries, on_bad_annotation="skip")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "a list, expected an object with images"),
        ('{"images": [], "categories": []}', "no list 'annotations'"),
        ('{"images": [', "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_files_of_another_form_are_named(tmp_path, text, message):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        list(conversions(ConvertConfig(annotations=str(file), output="out.jsonl")))
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        list(conversions(ConvertConfig(annotations=str(tmp_path / "none.json"), output="out.jsonl")))


@pytest.mark.parametrize("below", ["train2017", "."])
def test_lvis_names_images_in_coco_url(convert, folder, tmp_path, below):
    (tmp_path / below).mkdir(exist_ok=True)
    (tmp_path / below / "0001.png").write_bytes((folder / "a.png").read_bytes())
    image = {"id": 7, "width": WIDTH, "height": HEIGHT, "coco_url": "http://images.cocodataset.org/train2017/0001.png"}
    [record], _ = convert(BOX, entries=[image], source="lvis", images=str(tmp_path))
    assert (folder / record["images"][0]).samefile(tmp_path / below / "0001.png")


numbers = st.floats(-70, 70, width=32)
annotations = st.fixed_dictionaries(
    {
        **{key: st.just(BOX[key]) for key in ("id", "image_id")},
        "category_id": st.integers(1, 3),
        "bbox": st.lists(numbers, min_size=4, max_size=4),
        "segmentation": st.lists(st.lists(numbers, max_size=7).map(lambda flat: flat + flat[::-1]), max_size=2),
        "iscrowd": st.integers(0, 1),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(annotations, max_size=6), st.sampled_from(["bbox", "quad"]), st.sampled_from(["error", "clip"]))
def test_records_validate_and_every_annotation_is_accounted_for(folder, listed, polygons, outside):
    knobs = {"polygons": polygons, "outside": outside, "on_bad_annotation": "skip", "summary": True}
    content = {"images": [IMAGE], "annotations": listed, "categories": CATEGORIES}
    (folder / "any.json").write_text(json.dumps(content))
    config = ConvertConfig(annotations=str(folder / "any.json"), output=str(folder / "any.jsonl"), **knobs)
    [done] = conversions(config)
    file = folder / "any.jsonl"
    file.write_text(json.dumps(done.record, ensure_ascii=False), encoding="utf-8")
    assert not list(bad_lines(file, DataConfig(train_jsonl=str(file), summary_ratio=0.5)))
    left_out = sum(done.events[event] for event in (coco.CROWD, coco.BAD, coco.NO_AREA))
    assert len(done.record["objects"]) + left_out == len(listed)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, WIDTH), st.integers(0, HEIGHT)), min_size=3, max_size=8))
def test_a_quad_holds_its_polygon_and_little_more(points):
    polygon = {"segmentation": [[value for point in points for value in point]], "bbox": [0, 0, 5, 5]}
    kind, flat = shape(polygon, WIDTH, HEIGHT, quads=True, clip=False)
    cloud, image = shapely.MultiPoint(points), shapely.box(0, 0, WIDTH, HEIGHT)
    if cloud.convex_hull.area == 0:
        assert kind is Kind.BBOX
        return
    seen, kept = visible(Shapes.build([(kind, flat)]), WIDTH, HEIGHT)
    outline, rectangle = shapely.Polygon(seen.of(0)), cloud.minimum_rotated_rectangle
    assert kept == [0]
    assert outline.buffer(0.01).covers(cloud)
    whole = image.buffer(1e-6).covers(rectangle)
    most = rectangle.area if whole else shapely.intersection(rectangle, image).envelope.area
    assert outline.area <= most * 1.0001


def test_a_file_without_records_is_not_written(folder, tmp_path):
    content = {"images": [IMAGE], "annotations": [], "categories": CATEGORIES}
    (folder / "empty.json").write_text(json.dumps(content))
    config = ConvertConfig(annotations=str(folder / "empty.json"), output=str(tmp_path / "out.jsonl"), keep_empty=False)
    with pytest.raises(InputError, match=r"empty\.json: no image is left to write"):
        write(config)
    assert not list(tmp_path.iterdir())
    write(replace(config, keep_empty=True))
    with pytest.raises(InputError, match=r"out\.jsonl exists already"):
        write(config)
