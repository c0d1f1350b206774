"""The generated set: same bytes everywhere, records as promised, pictures that show what the records say."""

import json
import math
import multiprocessing
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely

from dvlm.data import demo
from dvlm.data.demo_paint import EDGE, paint
from dvlm.data.demo_scene import DOMAINS, Role
from dvlm.geometry.order import clockwise

SCENES = {
    domain: [
        demo.scene(split=split, index=index, domain=domain)
        for split, count in (("train", 200), ("val", 40))
        for index in range(count)
    ]
    for domain in DOMAINS
}
ALL = [scene for scenes in SCENES.values() for scene in scenes]


def outline(item):
    """The visible outline of an item as a shapely geometry."""
    if item.role is Role.CABLE:
        return shapely.LineString(item.points)
    return shapely.box(*np.ravel(item.points)) if len(item.points) == 2 else shapely.Polygon(item.points)


def check_record(row):
    """Raise AssertionError unless `row` is a record with every promise kept."""
    assert list(row) == ["images", "width", "height", "summary", "objects"]
    assert len(row["images"]) == 1
    assert not Path(row["images"][0]).is_absolute()
    assert 224 <= row["width"] <= 320
    assert 224 <= row["height"] <= 320
    assert 2 <= len(row["objects"]) <= 6
    counts = Counter(obj["desc"].split("/")[0] for obj in row["objects"])
    assert dict(part.split("×") for part in row["summary"].split("/")) == {k: str(v) for k, v in counts.items()}
    corners = []
    for obj in row["objects"]:
        (key,) = {"bbox_2d", "quad", "line"} & set(obj)
        assert set(obj) == {key, "desc"} | ({"line_points"} if key == "line" else set())
        assert all(type(value) is int for value in obj[key])
        points = np.array(obj[key]).reshape(-1, 2)
        assert (points >= 0).all()
        assert (points <= (row["width"], row["height"])).all()
        assert len(obj["desc"]) <= 20
        if key == "line":
            assert 3 <= obj["line_points"] == len(points) <= 6
            assert points[0, 1] < points[-1, 1]
        elif key == "bbox_2d":
            assert len(points) == 2
            assert (points[0] < points[1]).all()
        else:
            np.testing.assert_array_equal(clockwise(points[None].astype(float))[0], points)
        corners.append((points[:, 1].min(), points[:, 0].min()))
    assert corners == sorted(corners)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_record_keeps_its_promises(domain):
    for scene in SCENES[domain]:
        check_record(json.loads(json.dumps(demo.record(scene, "images/a.png"))))


def test_summaries_name_the_types_in_one_order():
    for scene in ALL:
        names = [part.split("×")[0] for part in scene.summary.split("/")]
        order = [scene.domain.names[role] for role in Role]
        assert names == sorted(names, key=order.index)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_word_of_the_vocabulary_is_used(domain):
    said = "\n".join(item.desc(scene.domain) for scene in SCENES[domain] for item in scene.items)
    words = DOMAINS[domain]
    for word in [*words.names.values(), *words.brands, *words.models, *words.colours, *words.papers, *words.texts]:
        assert word in said
    units = said.count(words.names[Role.UNIT])
    assert 0.05 < said.count("只显示部分") / units < 0.5
    assert said.count("显示完整") + said.count("只显示部分") == units


def test_domains_share_no_type_and_no_layout():
    assert not set(DOMAINS["a"].names.values()) & set(DOMAINS["b"].names.values())
    points = {domain: {tuple(item.points for item in scene.items) for scene in SCENES[domain]} for domain in DOMAINS}
    assert not points["a"] & points["b"]
    assert len(points["a"]) == 240


def test_sizes_are_mostly_multiples_of_32_but_not_all():
    sides = [side for scene in ALL for side in (scene.width, scene.height)]
    assert 0.7 < np.mean([side % 32 == 0 for side in sides]) < 0.9


def test_objects_do_not_hide_each_other():
    for scene in ALL:
        shapes = [outline(item) for item in scene.items]
        gaps = [a.distance(b) for i, a in enumerate(shapes) for b in shapes[:i]]
        assert not gaps or min(gaps) >= 4


def test_cables_have_their_colour_all_along():
    checked = 0
    for scene in ALL[::4]:
        image = paint(scene)
        for item in (item for item in scene.items if item.role is Role.CABLE):
            line = outline(item)
            along = [line.interpolate(t, normalized=True) for t in np.linspace(0, 1, 50)]
            seen = np.array([image[int(p.y), int(p.x)] for p in along], int)
            off = np.abs(seen - scene.domain.colours[item.colour]).max(axis=1)
            assert np.mean(off < 12) > 0.9
            checked += 1
    assert checked > 20


def test_boxes_end_where_their_labels_say():
    checked = 0
    for scene in ALL[::4]:
        image = paint(scene)
        for item in (item for item in scene.items if len(item.points) == 2):
            (x1, y1), (x2, y2) = item.points
            true_x2, true_y2 = item.whole[1] if item.whole else (x2, y2)
            assert (image[y1:y2, x1] == EDGE).all()
            assert (image[y1, x1:x2] == EDGE).all()
            assert (image[y1:y2, x2 - 1] == EDGE).all() == (x2 == true_x2)
            assert (image[y2 - 1, x1:x2] == EDGE).all() == (y2 == true_y2)
            assert x2 in (true_x2, scene.width)
            assert y2 in (true_y2, scene.height)
            assert (image[(y1 + y2) // 2, x1 - 1] != EDGE).any()
            assert (image[y1 - 1, (x1 + x2) // 2] != EDGE).any()
            checked += 1
    assert checked > 100


def test_tags_fill_their_quads():
    checked = 0
    for scene in ALL[::4]:
        image = paint(scene).astype(float)
        for item in (item for item in scene.items if item.role is Role.TAG):
            mask = np.zeros(image.shape[:2], np.uint8)
            cv2.fillPoly(mask, [np.array(item.points)], 1)
            paper = np.abs(image - scene.domain.papers[item.colour]).max(axis=2) < 12
            assert paper[mask > 0].mean() > 0.55
            checked += 1
    assert checked > 20


def changes(item, domain):
    """The same item with another word in the place of each word of its description."""

    def other(value, choices):
        return next(choice for choice in choices if choice != value)

    if item.role in (Role.DEVICE, Role.UNIT):
        yield replace(item, brand=other(item.brand, domain.brands))
    if item.role is Role.DEVICE:
        yield replace(item, model=other(item.model, domain.models))
    if item.role is Role.TAG:
        yield replace(item, text=other(item.text, domain.texts))
        yield replace(item, colour=other(item.colour, domain.papers))
    if item.role in (Role.PORT, Role.CABLE):
        yield replace(item, colour=other(item.colour, domain.colours))


def test_every_word_of_a_description_shows_on_its_object_and_nowhere_else():
    seen = Counter()
    for scene in ALL[::8]:
        before = paint(scene).astype(int)
        for index, item in enumerate(scene.items):
            near = outline(item).buffer(8 if item.role is Role.CABLE else 1)
            for changed in changes(item, scene.domain):
                assert changed.desc(scene.domain) != item.desc(scene.domain)
                items = (*scene.items[:index], changed, *scene.items[index + 1 :])
                rows, columns = np.nonzero(np.abs(paint(replace(scene, items=items)) - before).max(axis=2) > 40)
                assert len(rows) >= 20
                assert shapely.contains_xy(near, columns + 0.5, rows + 0.5).all()
                seen[item.role] += 1
    assert set(seen) == set(Role)


def contents(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_two_roots_hold_the_same_bytes(tmp_path):
    first, second = (demo.prepare(tmp_path / name, train=6, val=3)[0].parent for name in ("一", "two words"))
    assert contents(first) == contents(second)
    assert len(contents(first)) == 6 + 3 + 2


def test_files_agree_with_their_records(tmp_path):
    train, val = demo.prepare(tmp_path, train=5, val=3, domain="b")
    rows = [(file, json.loads(line)) for file in (train, val) for line in file.read_text("utf-8").splitlines()]
    assert len(rows) == 8
    for file, row in rows:
        check_record(row)
        image = cv2.imread(str(file.parent / row["images"][0]))
        assert image.shape == (row["height"], row["width"], 3)
    scene = demo.scene(split="val", index=2, domain="b")
    stored = cv2.imread(str(val.parent / rows[-1][1]["images"][0]))
    np.testing.assert_array_equal(stored[..., ::-1], paint(scene))


def test_a_record_depends_on_its_own_number_only(tmp_path):
    few, many = (demo.prepare(tmp_path, train=n, val=1)[0] for n in (2, 4))
    assert many.read_text("utf-8").startswith(few.read_text("utf-8"))
    other = demo.prepare(tmp_path, train=2, val=1, seed=18)[0]
    assert other.read_text("utf-8") != few.read_text("utf-8")
    assert len({path.parent for path in (few, many, other)}) == 3


def test_a_second_call_writes_nothing(tmp_path):
    train, _ = demo.prepare(tmp_path, train=1, val=1)
    train.write_text("touched")
    assert demo.prepare(tmp_path, train=1, val=1)[0] == train
    assert train.read_text() == "touched"


def test_the_slower_of_two_writers_takes_the_faster_ones_set(tmp_path, monkeypatch):
    write = demo._write_split
    calls = []

    def overtaken(directory, split, *rest):
        calls.append(split)
        write(directory, split, *rest)
        if len(calls) == 2:  # all is written but not yet in place: now another process does it all
            demo.prepare(tmp_path, train=2, val=1)

    monkeypatch.setattr(demo, "_write_split", overtaken)
    train, _ = demo.prepare(tmp_path, train=2, val=1)
    assert calls == ["train", "val"] * 2
    assert len(train.read_text("utf-8").splitlines()) == 2
    assert [path.name for path in tmp_path.iterdir()] == [train.parent.name]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def broken(scene):
        raise OSError("disk full")

    monkeypatch.setattr(demo, "paint", broken)
    with pytest.raises(OSError, match="disk full"):
        demo.prepare(tmp_path, train=1, val=1)
    assert not list(tmp_path.iterdir())


def prepare_at_once(barrier, root, results):
    barrier.wait()
    results.put(demo.prepare(root, train=8, val=2))


def test_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=prepare_at_once, args=(barrier, tmp_path, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    first, second = (results.get(timeout=30) for _ in workers)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == [first[0].parent.name]
    alone = demo.prepare(tmp_path / "alone", train=8, val=2)[0].parent
    assert contents(first[0].parent) == contents(alone)


@pytest.mark.parametrize("wrong", [{"domain": "c"}, {"train": 0}, {"val": -1}])
def test_wrong_arguments_are_named(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.*{next(iter(wrong.values()))}"):
        demo.prepare(tmp_path, **wrong)


def test_torch_is_not_imported():
    code = "import sys, dvlm.data.demo, dvlm.drawing; sys.exit('torch' in sys.modules)"
    root = Path(demo.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_bends_of_cables_can_be_seen():
    for scene in ALL:
        for item in (item for item in scene.items if item.role is Role.CABLE):
            for (ax, ay), (bx, by), (cx, cy) in zip(item.points, item.points[1:], item.points[2:], strict=False):
                turn = math.atan2(cy - by, cx - bx) - math.atan2(by - ay, bx - ax)
                assert abs(math.remainder(turn, math.tau)) >= math.radians(25) - 1e-9
