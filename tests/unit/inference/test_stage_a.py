"""Stage-A on the tiny model: layouts, faults, shards, and what is left of it when it is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from dvlm.config.compose import compose
from dvlm.inference.backend import Transformers
from dvlm.inference.journal import Journal
from dvlm.inference.tree import read
from dvlm.stage_a import stage_a
from dvlm.values import InputError

MISSIONS = {"BBU安装检查": "看BBU", "标签检查": "看标签"}
GROUPS = {
    "BBU安装检查/审核通过/组1": 3,
    "BBU安装检查/审核通过/组10": 1,
    "BBU安装检查/审核通过/组2": 2,
    "BBU安装检查/审核不通过/a=b, (c)": 2,
    "标签检查/审核不通过/g1": 4,
}
OPTIONS = ["engine.max_new_tokens=60", "engine.max_desc_chars=3", "engine.batch_size=1"]


def picture(path: Path, number: int) -> None:
    """Noise, of its own."""
    pixels = np.random.default_rng(number).integers(0, 256, (32 + 32 * (number % 2), 32, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


@pytest.fixture
def root(tmp_path) -> Path:
    """Two missions, one of them with groups of three sizes; 12 images."""
    root, number = tmp_path / "photos", 0
    for group, images in GROUPS.items():
        (root / group).mkdir(parents=True)
        for name in range(images):
            picture(root / group / f"{name + 9}.png", number := number + 1)
    return root


@pytest.fixture
def run(tiny, root, tmp_path, capsys):
    """Stage-A on `root`: its exit code and what it printed."""

    def run(*overrides: str, output: str = "out", checkpoint: str | None = str(tiny)) -> tuple[int, str]:
        model = [f"checkpoint={checkpoint}"] if checkpoint else []
        given = [*model, f"input={root}", f"output={tmp_path / output}", *OPTIONS, *overrides]
        with pytest.raises(SystemExit) as end:
            stage_a(compose("stage_a", given))
        return end.value.code, capsys.readouterr().out

    return run


def rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.jsonl"))}


def test_missions_become_files_that_datasets_reads(run, root, tmp_path):
    datasets = pytest.importorskip("datasets")
    assert run() == (
        0,
        f"4 of 4 groups in {tmp_path}/out/BBU安装检查.jsonl\n1 of 1 groups in {tmp_path}/out/标签检查.jsonl\n",
    )
    first, second = sorted((tmp_path / "out").glob("*.jsonl"))
    lines = rows(first)
    assert [(line["label"], line["group_id"]) for line in lines] == [
        ("审核通过", "组1"),
        ("审核通过", "组2"),
        ("审核通过", "组10"),
        ("审核不通过", "a=b, (c)"),
    ]
    assert [Path(image).name for image in lines[0]["images"]] == ["9.png", "10.png", "11.png"]
    for line in lines + rows(second):
        assert list(line) == ["group_id", "mission", "label", "images", "per_image"]
        assert list(line["per_image"]) == ["图片_1", "图片_2", "图片_3", "图片_4"]
        told = [summary for summary in line["per_image"].values() if summary]
        assert len(told) == len(line["images"])
        assert list(line["per_image"].values())[: len(told)] == told
        assert all((tmp_path / "out" / image).is_file() for image in line["images"])
    read = datasets.load_dataset(
        "json", data_files=[str(first), str(second)], split="train", cache_dir=str(tmp_path / "cache")
    )
    assert read.to_list() == lines + rows(second)
    before = files(tmp_path / "out"), Journal.beside(first).path.read_bytes()
    assert run("mission=bbu_installation")[0] == 0, "one mission of the same tree: nothing is left to ask"
    assert (files(tmp_path / "out"), Journal.beside(first).path.read_bytes()) == before


def test_a_plain_folder_has_a_line_an_image(run, root, tmp_path):
    for number in (10, 2, 1):
        picture(root / f"img{number}.png", number)
    for label in root.glob("*/*"):
        label.rename(label.with_name(f"_{label.name}"))
    assert run(output="summaries.jsonl") == (0, f"3 of 3 images in {tmp_path}/summaries.jsonl\n")
    lines = rows(tmp_path / "summaries.jsonl")
    assert [line["image_id"] for line in lines] == ["img1", "img2", "img10"]
    assert all(list(line) == ["image_id", "summary"] and line["summary"].strip() for line in lines)


def test_faults_are_named_and_nothing_else_is_lost(run, root, tmp_path):
    group = root / "BBU安装检查/审核通过/组1"
    whole = (group / "10.png").read_bytes()
    (group / "10.png").write_bytes(whole[:40])
    (root / "BBU安装检查/审核通过/空").mkdir()
    (root / "未配置/审核通过/g").mkdir(parents=True)
    picture(root / "未配置/审核通过/g/1.png", 1)
    picture(root / "标签检查/审核不通过/stray.png", 2)
    (root / "标签检查/审核通过/g1").mkdir(parents=True)
    picture(root / "标签检查/审核通过/g1/1.png", 3)
    code, said = run()
    assert code == 1
    for part in (
        "组1/10.png is not an image",
        "空: no image",
        "未配置: this mission is not configured",
        "stray.png: lies in no group",
        "标签检查/审核通过/g1: there is another group g1",
    ):
        assert part in said
    assert [line["group_id"] for line in rows(tmp_path / "out/BBU安装检查.jsonl")] == ["组2", "组10", "a=b, (c)"]
    (group / "10.png").write_bytes(whole)
    journal = Journal.beside(tmp_path / "out/BBU安装检查.jsonl")
    before = len(journal.read())
    code, said = run("mission=bbu_installation")
    assert (code, said.count("failed")) == (1, 1), "the empty group is left"
    assert len(journal.read()) == before + 1, "what has an answer is not asked again"
    (root / "BBU安装检查/审核通过/空").rmdir()
    assert run("mission=bbu_installation")[0] == 0
    assert run("mission=bbu_installation", output="fresh")[0] == 0
    assert (tmp_path / "out/BBU安装检查.jsonl").read_bytes() == (tmp_path / "fresh/BBU安装检查.jsonl").read_bytes()


def test_an_interrupted_run_goes_on(run, root, tmp_path, monkeypatch):
    """Stopped while it writes the second window, and once more with a line half written."""
    write, calls = Transformers.write, []

    def interrupted(self, orders, **options):
        calls.append(len(orders))
        if len(calls) == 9:
            raise KeyboardInterrupt
        return write(self, orders, **options)

    assert run(output="whole")[0] == 0
    monkeypatch.setattr(Transformers, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    journal = Journal.beside(tmp_path / "out/BBU安装检查.jsonl")
    assert len(journal.read()) == 1 + 8
    assert not files(tmp_path / "out")
    with journal.path.open("ab") as handle:
        handle.write('{"image": "BBU安装检查/审核'.encode())
    assert run()[0] == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    images = [line["image"] for line in journal.read()[1:]]
    assert len(images) == len(set(images)) == 8


def test_shards_are_merged_in_order(run, root, tmp_path):
    """Images of a group are shown two at a time."""
    assert run("images_per_turn=2", output="whole")[0] == 0
    for number in (3, 1, 2):
        assert run("images_per_turn=2", f"shard={number}/3") == (0, "")
    code, said = run("merge=true", checkpoint=None)
    assert code == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_shard_that_lacks_is_named(run, root, tmp_path):
    with pytest.raises(InputError, match="run the shards first"):
        run("merge=true", checkpoint=None)
    assert run("shard=1/2")[0] == 0
    code, said = run("merge=true", checkpoint=None)
    assert code == 1
    assert said.count("no answer yet") == 7


@pytest.mark.parametrize("of", [1, 2, 3, 4, 7])
def test_ranges_cover_every_group_once(root, of):
    tree = read(root, MISSIONS)
    parts = [tree.shard(number, of) for number in range(1, of + 1)]
    for place, mission in enumerate(tree.missions):
        found = [group for part in parts for group in part.missions[place].groups]
        assert tuple(found) == mission.groups
    sizes = [sum(len(mission.groups) for mission in part.missions) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_answers_of_other_settings_are_not_mixed(run, root, tmp_path):
    assert run()[0] == 0
    with pytest.raises(InputError, match=r"answers of another user_prompt .* overwrite=true"):
        run("user_prompt=别的")
    assert run("user_prompt=别的", "overwrite=true")[0] == 0
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/标签检查.jsonl").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        run(output="foreign")
    assert (tmp_path / "foreign/标签检查.jsonl").read_text() == "mine"


def test_an_image_that_was_replaced_is_asked_again(run, root, tmp_path):
    assert run("mission=labels")[0] == 0
    picture(root / "标签检查/审核不通过/g1/10.png", 77)
    assert run("mission=labels")[0] == 0
    assert run("mission=labels", output="fresh")[0] == 0
    assert files(tmp_path / "out") == files(tmp_path / "fresh")
    assert len(Journal.beside(tmp_path / "out/标签检查.jsonl").read()) == 1 + 4 + 1


def test_what_is_no_input_is_named(root, tmp_path):
    (tmp_path / "empty").mkdir()
    for given, message in ((tmp_path / "empty", "nothing in"), (tmp_path / "absent", "is no folder")):
        with pytest.raises(InputError, match=message):
            read(given, MISSIONS)
    with pytest.raises(InputError, match="no folder 线缆 in"):
        read(root, {"线缆": ""}, "线缆")
    assert [mission.name for mission in read(root / "标签检查", MISSIONS).missions] == ["标签检查"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["checkpoint=m", "shard=5/4"], "expected i/n"),
        (["checkpoint=m", "shard=2"], "expected i/n"),
        (["merge=true", "shard=1/2"], "leave shard and overwrite out"),
        ([], "give checkpoint="),
        (["checkpoint=m", "mission=bbu"], "bbu_installation"),
        (["checkpoint=m", "mission.focus=x"], "belongs to one mission"),
    ],
)
def test_contradictions_are_named(overrides, message):
    with pytest.raises(InputError, match=message):
        compose("stage_a", ["input=x", *overrides])


@pytest.mark.slow
def test_killed_and_run_again_it_writes_the_same_bytes(tiny, root, tmp_path):
    """A process of its own, killed with -9 as soon as its first answers are on the disk."""
    for number in range(40):
        picture(root / "标签检查/审核不通过/g1" / f"more{number}.png", 100 + number)
    command = [sys.executable, "-m", "dvlm.stage_a", f"checkpoint={tiny}", f"input={root}", *OPTIONS, "mission=labels"]
    journal = Journal.beside(tmp_path / "out/标签检查.jsonl")
    started = subprocess.Popen([*command, f"output={tmp_path / 'out'}"])
    while started.poll() is None and not (journal.path.exists() and len(journal.read()) > 1):
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    assert not files(tmp_path / "out")
    for folder in ("out", "whole"):
        assert subprocess.run([*command, f"output={tmp_path / folder}"], check=False).returncode == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    images = [line["image"] for line in journal.read()[1:]]
    assert len(images) == len(set(images)) == 44
