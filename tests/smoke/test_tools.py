"""`dvlm.convert` and `dvlm.split` as a user calls them, on paths with Chinese, spaces, brackets and `=`."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from dvlm.config import DataConfig
from dvlm.data.verify import bad_lines

VIEWS = ("左", "右")


@pytest.fixture
def folder(tmp_path):
    """Six pictures, two views each of three cabinets, and their annotations in COCO's form."""
    folder = tmp_path / "机房 (A)=1, 新"
    (folder / "照片 集").mkdir(parents=True)
    images, annotations = [], []
    for number in range(6):
        name = f"柜{number // 2}_{VIEWS[number % 2]}.png"
        Image.new("RGB", (40, 30)).save(folder / "照片 集" / name)
        images.append({"id": number, "width": 40, "height": 30, "file_name": name})
        annotations.append({"id": number, "image_id": number, "category_id": 5, "bbox": [1, 2, 30, 20]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "光模块"}]}
    (folder / "标注.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def tool(*command, cwd):
    return subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_convert_then_split(folder):
    annotations, output = f"annotations={folder / '标注.json'}", f"output={folder / '全部 记录.jsonl'}"
    done = tool("dvlm.convert", "coco", annotations, "images=照片 集", output, "desc={name}/好", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "records  6\nobjects  6 (6 bbox_2d)\n" in done.stdout
    file = folder / "全部 记录.jsonl"
    first = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    assert first["images"] == ["照片 集/柜0_左.png"]
    assert first["objects"] == [{"bbox_2d": [1, 2, 31, 22], "desc": "光模块/好"}]

    pattern = r"group_by=柜(\d)_"
    done = tool("dvlm.split", f"input={file}", "output=分 开", "val=0.3", pattern, cwd=folder)
    assert done.returncode == 0, done.stderr
    train, val = done.stdout.splitlines()
    assert train.endswith("train.jsonl  records 4 (66.7%)  groups 2")
    assert val.endswith("val.jsonl  records 2 (33.3%)  groups 1")
    for name in ("train", "val"):
        written = folder / "分 开" / f"{name}.jsonl"
        assert not list(bad_lines(written, DataConfig(train_jsonl=str(written))))

    again = tool("dvlm.convert", "voc", annotations, output, cwd=folder)
    assert again.returncode == 2
    assert again.stderr.startswith("error: source is 'voc'")
    assert again.stderr.endswith("coco, lvis\n")
