"""Real photographs through the main job: three records with boxes, quads and lines, two steps, a checkpoint."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dvlm.config.compose import compose
from dvlm.train import train

# The photographs lie beside scikit-image's code; `skimage.data.<name>()` might download them.
skimage = pytest.importorskip("skimage", reason="scikit-image ships the photographs")
SHIPPED = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = {
    "astronaut.png": (
        *("宇航员 (1).png", "宇航员×1/头盔×1"),
        [
            {"bbox_2d": [60, 0, 440, 512], "desc": "宇航员/显示完整"},
            {"quad": [330, 210, 512, 190, 512, 400, 380, 420], "desc": "头盔/颜色:白色"},
        ],
    ),
    "coffee.png": (
        *("咖啡,杯.jpg", "杯子×1/勺子×1"),
        [
            {"bbox_2d": [140, 40, 470, 330], "desc": "杯子/颜色:红色"},
            {"line": [480.5, 60, 520, 200, 555.25, 370], "line_points": 3, "desc": "勺子/弯曲半径合理"},
        ],
    ),
    "chelsea.png": ("猫=切尔西.png", "猫×1", [{"bbox_2d": [60, 5, 400, 300], "desc": "猫/只显示部分"}]),
}


def photograph_records(folder):
    """train.jsonl and val.jsonl with the photographs beside them; one of them as a rotated JPEG."""
    (folder / "图片").mkdir(parents=True)
    rows = []
    for source, (name, summary, objects) in PHOTOGRAPHS.items():
        target = folder / "图片" / name
        image = Image.open(SHIPPED / source)
        if target.suffix == ".jpg":
            exif = Image.Exif()
            exif[0x0112] = 8  # stored on its side, shown upright
            image.transpose(Image.Transpose.ROTATE_270).save(target, exif=exif, quality=90)
        else:
            shutil.copy(SHIPPED / source, target)
        rows.append(
            {
                "images": [f"图片/{name}"],
                "width": image.width,
                "height": image.height,
                "summary": summary,
                "objects": objects,
            }
        )
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "训练.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "val.jsonl").write_text(lines[0], encoding="utf-8")
    return folder / "训练.jsonl", folder / "val.jsonl"


def test_photographs_train_two_steps(tmp_path, cache):
    train_jsonl, val_jsonl = photograph_records(tmp_path / "照片 (1), a=b")
    overrides = [
        *(f"cache_dir='{cache}'", "data=jsonl", f"data.train_jsonl='{train_jsonl}'", f"data.val_jsonl='{val_jsonl}'"),
        *("augmentation=dense", "data.summary_ratio=0.3", "data.packs_per_step=1", "data.max_pixels=65536"),
        *("trainer.max_steps=2", "trainer.num_train_epochs=2", "logger=none", "callbacks=quiet"),
    ]
    config = compose("train", overrides)
    run = tmp_path / "run"
    loss = train(config, run)
    lines = [json.loads(line) for line in (run / "logging.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in steps] == [1, 2]
    assert all(np.isfinite(line["train/sft_loss"]) and line["train/token_count"] > 20 for line in steps)
    assert np.isfinite(loss)
    assert (run / "checkpoints" / "step-000002" / "adapter_model.safetensors").is_file()
    assert (run / "checkpoints" / "last").exists()
