"""The preview page: every section, nothing loaded from elsewhere, data never taken for HTML, numbers of the plan."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dvlm import assembly
from dvlm.config.compose import compose
from dvlm.data.datamodule import CaptionDataModule
from dvlm.drawing import type_colour
from dvlm.preview import preview
from dvlm.values import InputError

CACHE = Path(__file__).resolve().parents[2] / "outputs" / "cache"  # as in tests/conftest.py
DEMO = ("data.demo.train=24", "data.demo.val=6")
CROP = (
    "augmentation.ops=[{name: random_crop, params: {prob: 1.0, scale: [0.3, 0.6], min_objects: 1}},"
    "{name: pad_to_multiple}]"
)
VOID = {"meta", "img", "input"}


class Page(HTMLParser):
    """A page as a browser sees it: its elements, its text, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.words += f"{data}\n" if "style" not in self.open else ""

    def all(self, name):
        """The attributes of every element of a name."""
        return [attributes for each, attributes in self.elements if each == name]

    def pictures(self):
        """The pictures (H, W, 3) RGB, in the order of the page."""
        sources = [image["src"].removeprefix("data:image/jpeg;base64,") for image in self.all("img")]
        coded = [np.frombuffer(base64.b64decode(source), np.uint8) for source in sources]
        return [cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for data in coded]

    def row(self, name):
        """The value that follows `name`, in a table."""
        return self.words.split(f"\n{name}\n", 1)[1].split("\n", 1)[0]

    def figure(self, name):
        """The value above `name`, in the key figures."""
        return self.words.split(f"\n{name}\n", 1)[0].rsplit("\n", 1)[1]


def made(target: Path, *overrides: str) -> Page:
    """The page that `preview` writes under the overrides."""
    data = () if {"data=jsonl", "data=mixture"} & {*overrides} else DEMO
    preview(compose("preview", [f"cache_dir={CACHE}", f"output={target}", *data, *overrides]))
    page = Page(target.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def planned(*overrides: str) -> CaptionDataModule:
    """The data of a run under the same overrides."""
    return assembly.build_data(assembly.prepare(compose("train", [f"cache_dir={CACHE}", *DEMO, *overrides])))


def jsonl(folder: Path, *objects: list[dict[str, object]], **changes: object) -> Path:
    """Records of grey pictures of 96 x 64 pixels, one a list of objects."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (96, 64), (128, 128, 128)).save(folder / "图 1.png")
    size = {"images": ["图 1.png"], "width": 96, "height": 64} | changes
    rows = [json.dumps(size | {"objects": each}, ensure_ascii=False) for each in objects]
    (folder / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder / "train.jsonl"


def own(file: Path) -> tuple[str, ...]:
    return ("data=jsonl", f"data.train_jsonl={file}", "data.images_per_user_turn=1")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The page of the demo set with crops, three turns in pictures, and its size."""
    target = tmp_path_factory.mktemp("页 面") / "预览 (1), a=b.html"
    return made(target, CROP, "samples=3", "epoch=1"), target.stat().st_size


def test_sections(demo):
    page, _ = demo
    for title in ("Lengths", "The epoch in numbers", "What augmentation does", "Made from", "Objects by type", "Turns"):
        assert f"\n{title}\n" in page.words
    assert len(page.all("article")) == 3
    assert len(page.all("svg")) == 1
    assert page.words.count("Answer (supervised)") == page.words.count("\nPrompt\n") == 3


def test_pictures_are_before_and_after_with_labels(demo):
    page, size = demo
    pictures = page.pictures()
    assert len(pictures) == 3 * 2 * 2
    assert all(max(picture.shape) >= 800 for picture in pictures)
    assert size < 10e6


def test_after_is_rendered_and_labels_follow(tmp_path):
    file = jsonl(tmp_path, [{"bbox_2d": [10, 10, 30, 40], "desc": "甲"}])
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48, 0] = pixels[:, 48:, 2] = 255
    Image.fromarray(pixels).save(tmp_path / "图 1.png")
    page = made(tmp_path / "p.html", *own(file), "augmentation.ops=[{name: hflip, params: {prob: 1.0}}]")
    before, after = page.pictures()
    for picture, edge, left in ((before, 10, (255, 0, 0)), (after, 96 - 30, (0, 0, 255))):
        scale = picture.shape[1] / 96
        assert np.abs(picture[-20, 20].astype(int) - left).max() < 30
        column = picture[round(25 * scale), round(edge * scale) - 2 : round(edge * scale) + 3].astype(int)
        assert np.abs(column - type_colour("甲")).max(1).min() < 60
    assert "mirrored left to right" in page.words


def test_nothing_is_loaded_from_elsewhere(demo):
    page, _ = demo
    assert not {name for name, _ in page.elements} & {"script", "link", "iframe", "object", "embed", "base", "a"}
    for _, attributes in page.elements:
        assert not {name for name in attributes if name.startswith("on") or name in ("href", "srcset", "action")}
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")


def test_numbers_are_those_of_the_plan(tmp_path):
    options = ("global_max_length=900", "augmentation=dense", "data.summary_ratio=0.4")
    page = made(tmp_path / "p.html", *options, "samples=0")
    data = planned(*options)
    plan = data.train_plan.statistics(900)
    assert page.row("Records") == "24"
    assert page.figure("turns") == "12"
    assert page.row("Tokens") == f"{plan['tokens']:,}"
    assert page.row("Supervised tokens").startswith(f"{plan['supervised_tokens']:,} ")
    assert page.figure("packs") == f"{plan['packs']}"
    assert page.figure("packing efficiency") == f"{plan['efficiency']:.1%}"
    assert page.row("Optimizer steps").startswith(f"{plan['steps']} ")
    turns = [data.train_line.turn(0, index) for index in range(12)]
    assert page.row("Turns").startswith(f"12 ({sum(turn.mode == 'dense' for turn in turns)} dense, ")
    samples = [data.train_line.sample(0, index) for index in range(12)]
    pads = sum(int((s.input_ids == data.encoder.processor.image_token_id).sum()) for s in samples)
    assert page.figure("image tokens") == f"{pads / plan['tokens']:.1%}"
    assert page.all("img") == []


def test_padded_mode_is_counted_as_its_batches_are(tmp_path):
    options = ("data.packing=false", "data.samples_per_pack=3", "augmentation=dense")
    page = made(tmp_path / "p.html", *options, "samples=0")
    data = planned(*options)
    batches = list(data.train_dataloader())
    real, cells = (
        sum(count(b.attention_mask) for b in batches) for count in (lambda m: int(m.sum()), lambda m: m.numel())
    )
    assert page.figure("padded instead") == f"{real / cells:.1%}"


def test_crops_are_counted_by_reason_and_objects_by_type(tmp_path):
    box = [{"bbox_2d": [2, 2, 30, 30], "desc": "甲/显示完整"}, {"quad": [60, 20, 90, 22, 88, 60, 58, 58], "desc": "乙"}]
    line = [{"line": [1, 1, 95, 63], "line_points": 2, "desc": "线/红"}]
    page = made(tmp_path / "p.html", *own(jsonl(tmp_path, box, line)), CROP)
    assert page.row("random_crop skipped: it would cut a line") == "1"
    cells = page.words.split("\n线\n", 1)[1].split("\n")[:5]
    assert cells == ["1", "0", "0", "1", "0"]
    dropped = int(page.row("Objects").split(" dropped")[0].split()[-1])
    kept = sum(int(count) for count in re.findall(r"Objects: (\d) of", page.words))
    assert kept + dropped == 3
    cut = [objects.count(";") + 1 for objects in re.findall(r"Cut, share left: (.*)", page.words)]
    assert page.row("Objects").endswith(f" {sum(cut)} cut by the canvas")
    assert cut


def test_data_is_text_never_html(tmp_path):
    evil = "<script>alert(1)</script>\"'&amp;"
    page = made(tmp_path / "p.html", *own(jsonl(tmp_path / "<b>", [{"bbox_2d": [1, 1, 9, 9], "desc": evil}])))
    assert page.all("script") == page.all("b")[8:] == []
    assert "\n<script>alert(1)<\n" in page.words  # the type: what stands before the first slash
    assert json.dumps(evil, ensure_ascii=False) in page.words  # the answer
    assert "<b>" in page.words


def test_dialogues_stay_as_they_are(tmp_path):
    Image.new("RGB", (96, 64)).save(tmp_path / "a.png")
    messages = [{"role": "user", "content": "<image>几个?"}, {"role": "assistant", "content": "两个"}]
    messages += [{"role": "user", "content": "确定?"}, {"role": "assistant", "content": "是的"}]
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps({"messages": messages, "images": ["a.png"]}), encoding="utf-8")
    page = made(tmp_path / "p.html", *own(file), "augmentation=conservative")
    assert page.row("Turns") == "1 (1 dialogue)"
    assert page.words.count("Answer (supervised)") == 2
    assert "unchanged" in page.words
    assert "Nothing: every image stays as it is." in page.words


def test_a_mixture_shows_turns_of_every_source(tmp_path):
    many = jsonl(tmp_path / "a", *[[{"bbox_2d": [1, 1, 9, 9], "desc": "甲"}]] * 6)
    few = jsonl(tmp_path / "b", *[[{"bbox_2d": [1, 1, 9, 9], "desc": "乙"}]] * 3)
    sources = (
        f"data.sources=[{{name: '站甲', train_jsonl: '{many}'}}, {{name: '站乙', train_jsonl: '{few}', weight: 2}}]"
    )
    options = ("data=mixture", sources, "data.images_per_user_turn=1", "samples=4")
    page = made(tmp_path / "p.html", *options)
    assert page.figure("turns") == "12"
    assert page.row("Sources") == "6 站乙, 6 站甲"
    assert [page.words.count(f"\n{name}\n") for name in ("站甲", "站乙")] == [2, 2]
    assert page.row("Records") == "9"


def test_turns_above_the_limit_are_named_and_the_page_is_made(tmp_path, capsys):
    page = made(tmp_path / "p.html", "global_max_length=500", "samples=1", "augmentation=dense")
    out = capsys.readouterr().out
    found = re.search(r"(\d+) of 12 turns are longer than global_max_length 500; a run stops there", out)
    assert page.figure("turns dropped") == found.group(1) != "0"
    assert found.group() in page.words
    assert "train.jsonl:" in out
    data = planned("global_max_length=500", "augmentation=dense", "data.truncation=drop")
    samples = [data.train_line.sample(*name) for pack in data.train_plan.packs for name in pack.samples]
    pads = sum(int((s.input_ids == data.encoder.processor.image_token_id).sum()) for s in samples)
    assert page.figure("image tokens") == f"{pads / sum(len(s.input_ids) for s in samples):.1%}"
    assert [bar for bar in page.all("rect") if bar["class"] == "over"]


def test_the_terminal_tells_path_and_numbers(tmp_path, capsys):
    page = made(tmp_path / "p.html", "samples=0", "augmentation=none")
    out = capsys.readouterr().out
    assert str(tmp_path / "p.html") in out
    for name in ("turns", "tokens", "supervised", "packs", "packing efficiency", "padded instead"):
        assert re.search(rf"^{name} +{re.escape(page.figure(name))}$", out, re.MULTILINE)


def test_a_bad_record_is_named(tmp_path):
    file = jsonl(tmp_path, [{"bbox_2d": [1, 1, 9, 9], "desc": "甲"}], [{"bbox_2d": [1, 1, 900, 9], "desc": "乙"}])
    with pytest.raises(InputError, match=rf"{re.escape(str(file))}:2: objects\[0\]\.bbox_2d"):
        made(tmp_path / "p.html", *own(file))
    assert not (tmp_path / "p.html").exists()


def test_an_image_that_does_not_decode_is_named(tmp_path):
    file = jsonl(tmp_path, [{"bbox_2d": [1, 1, 9, 9], "desc": "甲"}])
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)).save(tmp_path / "图 1.png")
    whole = (tmp_path / "图 1.png").read_bytes()
    (tmp_path / "图 1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=rf"{re.escape(str(file))}:1: images"):
        made(tmp_path / "p.html", *own(file), "data.verify_images=header")


def test_the_epoch_is_the_one_that_a_run_would_see(tmp_path):
    page = made(tmp_path / "p.html", "epoch=2", "samples=1", "augmentation=dense")
    data = planned("augmentation=dense")
    sample = data.train_line.sample(2, 0)
    assert sample.answer in page.words
    assert sample.turn.place in page.words
    supervised = int((sample.labels != -100).sum())
    assert f"{len(sample.input_ids)} tokens, {supervised} supervised, " in page.words


def test_output_must_be_a_file(tmp_path):
    with pytest.raises(InputError, match="output: .* is a directory"):
        made(tmp_path)


def test_experiments_of_a_run_are_taken(tmp_path):
    config = compose("preview", ["+experiment=gkd_forward", "model=qwen3_vl_4b", "data=jsonl", "data.train_jsonl=a"])
    assert config.global_max_length == compose("train", ["model=qwen3_vl_4b"]).global_max_length
    assert config.rlhf.rlhf_type == "gkd"
