"""A split keeps groups whole and every line once; its share is as near to the wish as whole groups allow."""

import json
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvlm.config import SplitConfig
from dvlm.data.records import parse
from dvlm.data.splitting import choose, connected, moved, split
from dvlm.split import split as run
from dvlm.values import InputError

FOLDERS = st.sampled_from(["机柜 1", "机柜 2", "b", "b/c", ".."])
NAMES = st.builds("{}/{}_{}.jpg".format, FOLDERS, st.integers(0, 6), st.integers(0, 3))
PATTERN = r"(\d+)_\d"


def record(image, **fields):
    return {"images": [image], "width": 4, "height": 4, "summary": "空", **fields}


def dialogue(*images):
    items = [{"type": "image", "image": image} for image in images]
    user = {"role": "user", "content": [*items, {"type": "text", "text": "看"}]}
    return {"messages": [user, {"role": "assistant", "content": "好"}]}


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def images(file):
    """The images of each line of a JSONL file, where its paths lead."""
    parts = [parse(file, line, raw) for line, raw in enumerate(file.read_bytes().splitlines(), 1)]
    return [
        tuple(os.path.normpath(image) for image in (part.images if hasattr(part, "images") else [part.image]))
        for part in parts
    ]


def key(image, group_by):
    if group_by == PATTERN:
        return Path(image).name.split("_")[0]
    return image if group_by is None else str(Path(image).parent)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.one_of(NAMES.map(record), st.lists(NAMES, max_size=3).map(lambda names: dialogue(*names)))),
    st.sampled_from([None, "folder", PATTERN]),
    st.floats(0.01, 0.99),
    st.sampled_from(["in/split", "elsewhere/数据"]),
)
def test_groups_never_straddle_and_every_line_is_kept_once(tmp_path_factory, rows, group_by, val, output):
    root = tmp_path_factory.mktemp("split").resolve()
    two_groups = [record("x/90_0.jpg"), record("y/91_0.jpg")]
    source = write(root / "in" / "all.jsonl", rows + two_groups)
    run(SplitConfig(input=str(source), output=str(root / output), val=val, group_by=group_by))
    sides = [images(root / output / f"{name}.jsonl") for name in ("train", "val")]
    assert all(sides)
    assert sorted(sides[0] + sides[1]) == sorted(images(source))
    train, held_out = ({key(image, group_by) for line in side for image in line} for side in sides)
    assert not train & held_out


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=9), st.floats(0.01, 0.99), st.integers(0, 3))
def test_no_choice_of_groups_is_nearer(sizes, share, seed):
    wish = share * sum(sizes)
    chosen = choose(np.array(sizes), wish, np.random.default_rng(seed))
    assert 1 <= len(set(chosen.tolist())) == len(chosen) < len(sizes)
    sums = {sum(each) for count in range(1, len(sizes)) for each in combinations(sizes, count)}
    found = abs(sum(sizes[index] for index in chosen) - wish)
    assert found == pytest.approx(min(abs(each - wish) for each in sums), abs=1e-9)


def test_a_million_records_are_chosen_in_seconds_whatever_the_sizes():
    rng = np.random.default_rng(0)
    for sizes in (np.ones(1_000_000, np.int64), rng.integers(3, 60, 30_000) * 2):
        chosen = choose(sizes, 0.1 * sizes.sum() + 1, rng)
        assert abs(sizes[chosen].sum() - 0.1 * sizes.sum()) <= 2


def test_lines_that_share_a_key_are_one_group_through_others_too():
    lines = [("a",), ("b",), ("c", "b"), ("d",), ("a", "e"), ("e", "d"), ("f",)]
    groups = connected(lines).tolist()
    assert groups == [groups[0], groups[1], groups[1], groups[0], groups[0], groups[0], groups[6]]
    assert len(set(groups)) == 3


def test_the_seed_decides_alone(tmp_path):
    file = write(tmp_path / "all.jsonl", [record(f"{index}.jpg") for index in range(60)])
    base = {"input": str(file), "output": str(tmp_path), "val": 0.25}
    first, again, other = (split(SplitConfig(**base, seed=seed)).val for seed in (1, 1, 2))
    assert first.sum() == other.sum() == 15
    assert (first == again).all()
    assert (first != other).any()


def test_all_records_of_an_image_stay_together(tmp_path):
    file = write(tmp_path / "all.jsonl", [record(f"{'x/../' * (index % 2)}{index // 2}.jpg") for index in range(8)])
    assert len(set(split(SplitConfig(input=str(file), output=str(tmp_path))).groups.tolist())) == 4


def test_several_brackets_name_a_group_together(tmp_path):
    names = ["s1/01_a.jpg", "s1/01_b.jpg", "s1/02_a.jpg", "s2/01_a.jpg"]
    file = write(tmp_path / "all.jsonl", [record(name) for name in names])
    config = SplitConfig(input=str(file), output=str(tmp_path), group_by=r"(s\d)/(\d+)_")
    groups = split(config).groups.tolist()
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


def test_the_pattern_sees_the_path_of_the_line_not_the_folders_above(tmp_path):
    names = ["01_a.jpg", str(tmp_path / "7_x" / "01_b.jpg"), "2_b.jpg"]
    file = write(tmp_path / "7_x" / "all.jsonl", [record(name) for name in names])
    groups = split(SplitConfig(input=str(file), output=str(tmp_path), group_by=r"(\d+)_")).groups.tolist()
    assert groups[0] == groups[1] != groups[2]


def test_lines_keep_all_but_relative_paths(tmp_path):
    url = {"type": "image_url", "image_url": {"url": "a.jpg"}}
    chat = dialogue("a.jpg")
    chat["messages"][0]["content"].insert(0, url)
    marked = {"messages": [{"role": "user", "content": "<image>看"}, {"role": "assistant", "content": "好"}]}
    box = {"bbox_2d": [0.1, 1, 2, 3.30], "desc": "光模块"}
    rows = [record("a.jpg", objects=[box]), record("/x/a.jpg"), {**marked, "images": ["a.jpg"]}, chat]
    file = write(tmp_path / "in" / "all.jsonl", rows)
    lines = [json.loads(line) for line in moved(file, tmp_path / "out" / "deep")]
    there = "../../in/a.jpg"
    assert lines[0] == {**rows[0], "images": [there]}
    assert lines[1] == rows[1]
    assert lines[2] == {**marked, "images": [there]}
    assert lines[3]["messages"][0]["content"][:2] == [{"type": "image", "image": there}] * 2
    assert list(moved(file, tmp_path / "in"))[0] == file.read_text(encoding="utf-8").splitlines(keepends=True)[0]


def test_paths_lead_through_links(tmp_path):
    for folder in ("in", "disk/photos", "disk/out"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "in" / "photos").symlink_to(tmp_path / "disk" / "photos")
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    (tmp_path / "disk" / "photos" / "a.jpg").touch()
    (tmp_path / "disk" / "b.jpg").touch()
    file = write(tmp_path / "in" / "all.jsonl", [record("photos/a.jpg"), record("photos/../b.jpg")])
    for folder in (tmp_path / "in", tmp_path / "out", tmp_path / "in" / "below"):
        folder.mkdir(exist_ok=True)
        for line in moved(file, folder):
            assert (folder / json.loads(line)["images"][0]).is_file(), (folder, line)
    first = next(moved(file, tmp_path / "in"))
    assert json.loads(first)["images"] == ["photos/a.jpg"], "a link below the folder is not followed"


@pytest.mark.parametrize(
    ("rows", "group_by", "message"),
    [
        ([record("1_a.jpg"), record("b.jpg")], r"(\d+)_", r"all\.jsonl:2: images: b\.jpg; expected .*group_by=\(\\d"),
        ([record("a.jpg"), {"images": []}], None, r"all\.jsonl:2: images: \[\]"),
        ([record("a.jpg"), record("b.jpg")], "folder", "all 2 records are of one group; .*change group_by=folder"),
        ([], None, "no records"),
    ],
)
def test_errors_name_the_line_and_leave_nothing(tmp_path, rows, group_by, message):
    file = write(tmp_path / "all.jsonl", rows)
    with pytest.raises(InputError, match=message):
        run(SplitConfig(input=str(file), output=str(tmp_path / "out"), group_by=group_by))
    assert not list((tmp_path / "out").iterdir())


def test_files_are_replaced_only_on_request(tmp_path):
    file = write(tmp_path / "all.jsonl", [record("a.jpg"), record("b.jpg")])
    config = SplitConfig(input=str(file), output=str(tmp_path / "out"))
    write(tmp_path / "out" / "val.jsonl", [])
    with pytest.raises(InputError, match=r"val\.jsonl exists already; .*overwrite=true"):
        run(config)
    assert os.listdir(tmp_path / "out") == ["val.jsonl"]
    run(SplitConfig(**{**vars(config), "overwrite": True}))
    assert sorted(os.listdir(tmp_path / "out")) == ["train.jsonl", "val.jsonl"]
    with pytest.raises(InputError, match="is the input and would be replaced"):
        run(SplitConfig(input=str(tmp_path / "out" / "val.jsonl"), output=str(tmp_path / "out"), overwrite=True))
    with pytest.raises(InputError, match=r"none\.jsonl: there is no such file"):
        run(SplitConfig(input=str(tmp_path / "none.jsonl"), output=str(tmp_path / "new")))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"val": 0.0}, "val is 0.0"),
        ({"val": float("nan")}, "val is nan"),
        ({"group_by": "("}, "not a regular expression"),
        ({"group_by": r"\d+_"}, "brackets around what names the group"),
        ({"group_by": "folders"}, "expected folder, null, or a pattern"),
        ({"seed": -1}, "seed is -1"),
        ({"output": ""}, "output is empty"),
    ],
)
def test_bad_knobs(knobs, message):
    with pytest.raises(ValueError, match=message):
        SplitConfig(**{"input": "a", "output": "b", **knobs})
