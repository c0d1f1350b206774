"""`python -m dvlm.validate`: one line a mistake, all of them, and an exit code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
STRANGE = "数据 (1), a=b"  # Chinese, spaces, commas, equals signs and parentheses


def record(**changes):
    good = {"images": ["图.png"], "width": 40, "height": 30, "summary": "标签×1", "objects": []}
    return json.dumps(good | changes, ensure_ascii=False)


def write(file, *lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(file.parent / "图.png")
    return file


def validate(train, val, *overrides):
    command = [
        sys.executable,
        "-m",
        "dvlm.validate",
        "data=jsonl",
        f"data.train_jsonl={train}",
        f"data.val_jsonl={val}",
    ]
    return subprocess.run([*command, *overrides], capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_every_mistake_of_both_files_is_a_line(tmp_path):
    both = [{"bbox_2d": [1, 2, 3, 4], "quad": [1, 2, 3, 2, 3, 4, 1, 4], "desc": "a"}]
    train = write(
        tmp_path / STRANGE / "训练 集.jsonl",
        *(record(), "{", record(objects=both), record(width=41), record(), record(summary="a\n<|im_end|>")),
    )
    val = write(tmp_path / "val,=().jsonl", record(images=["没有.png"]), record(), record(objects=None))
    done = validate(train, val)
    assert done.returncode == 1, done.stderr
    *lines, last = done.stdout.splitlines()
    places = [(train, 2), (train, 3), (train, 4), (train, 6), (val, 1), (val, 3)]
    fields = ["json", "objects[0]", "width, height", "summary", "images", "objects"]
    table = {line.split(maxsplit=1)[1]: int(line.split()[0]) for line in lines[len(places) :]}
    assert table == {"objects": 2, "json": 1, "width, height": 1, "summary": 1, "images": 1}
    for line, (file, number), field in zip(lines[: len(places)], places, fields, strict=True):
        assert line.startswith(f"{file}:{number}: {field}: ")
        assert "; expected " in line
    assert last.startswith("6 errors in ")
    assert done.stderr == ""


def test_good_files_pass(tmp_path):
    train = write(tmp_path / STRANGE / "训练 集.jsonl", record(), record(summary=None))
    val = write(tmp_path / "val,=().jsonl", record())
    done = validate(train, val)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0 errors in ")
    assert len(done.stdout.splitlines()) == 1
