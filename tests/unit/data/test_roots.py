"""`image_root`: what leads out of the folders is refused by record and path, and never opened."""

from __future__ import annotations

import os

import datakit
import pytest

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import CaptionConfig, DataConfig, StageAConfig
from dvlm.config.compose import compose
from dvlm.data import files, images, source, verify
from dvlm.data.index import RecordFile
from dvlm.data.roots import existing, inside
from dvlm.inference import tree
from dvlm.inference.inputs import images_of
from dvlm.values import InputError


@pytest.fixture
def photos(tmp_path):
    """A root with a picture, a link that stays inside, links that lead out, and a secret beside the root."""
    root = tmp_path / "照片 a"
    datakit.picture(root / "in" / "a.png")
    datakit.picture(tmp_path / "secret.png")
    datakit.picture(tmp_path / "照片 ab" / "a.png")  # begins with the same letters
    (root / "inner.png").symlink_to("in/a.png")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "folder").symlink_to(tmp_path)
    (root / "loop.png").symlink_to("loop.png")
    return root


INSIDE = ["in/a.png", "inner.png", "in/../in/a.png", "../照片 a/in/a.png", "in/没有.png"]
OUTSIDE = [
    *("../secret.png", "in/../../secret.png", "../../../../../../etc/passwd", "/etc/passwd", "/dev/zero", "out.png"),
    *("folder/secret.png", "folder/照片 ab/a.png", "../照片 ab/a.png", "a\0.png"),
]


def test_links_and_dots_are_followed(photos):
    roots = [str(photos)]
    assert [path for path in INSIDE if not inside(photos / path, roots)] == []
    assert [path for path in OUTSIDE if inside(photos / path, roots)] == []
    assert inside(photos / OUTSIDE[0], [])
    assert inside(photos / "../secret.png", [*roots, str(photos.parent)])


def test_a_root_that_is_a_link_stands_for_its_folder(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    for root in (str(tmp_path / "link"), str(photos)):
        for path in (photos / "in" / "a.png", tmp_path / "link" / "in" / "a.png"):
            assert inside(path, [root])


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_record_that_leads_out_is_refused_unopened(photos, path, monkeypatch):
    file = datakit.write(photos / "a.jsonl", datakit.row(image="in/a.png"), datakit.row(image=path))
    opened = []
    monkeypatch.setattr(images, "size", lambda path: opened.append(path) or (64, 48))
    monkeypatch.setattr(images, "load", opened.append)
    with pytest.raises(InputError) as caught:
        verify.check(RecordFile(file), datakit.config(image_root=str(photos)))
    message = str(caught.value)
    assert message.startswith(f"{file}:2: images: {photos / path}".replace("\0", "\\x00"))
    assert message.endswith(f"expected a path that leads into data.image_root, {photos}")
    assert set(opened) == {photos / "in" / "a.png"}


def test_dialogues_are_confined_too(photos):
    talk = {
        "messages": [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "b"}],
        "images": ["../secret.png"],
    }
    file = datakit.write(photos / "a.jsonl", talk)
    verify.check(RecordFile(file), datakit.config())
    with pytest.raises(InputError, match="a.jsonl:1: images: .*secret.png; expected a path that leads into"):
        verify.check(RecordFile(file), datakit.config(image_root=[str(photos)]))


def moved_out(record):
    """A preprocessor that leads out."""
    return type(record)(**{**vars(record), "image": record.file.parent / "out.png"})


def test_training_validation_and_the_list_of_errors_know_the_root(photos, tiny):
    file = datakit.write(photos / "a.jsonl", datakit.row(image="out.png"), datakit.row(image="in/a.png"))
    config = datakit.config(train_jsonl=str(file), val_jsonl=str(file), image_root=str(photos))
    parts = {"augmentation": Pipeline(), "encoder": datakit.encoder(tiny), "seed": 17}
    for line in (source.training, source.validation):
        with pytest.raises(InputError, match=r"a.jsonl:1: images: .*out.png; expected"):
            line(config, **parts)
    assert [error.line for error in verify.bad_lines(file, config)] == [1]
    own = datakit.config(image_root=str(photos), preprocessors=[f"{__name__}:moved_out"])
    assert [error.line for error in verify.bad_lines(file, own)] == [1, 2]


def test_skip_leaves_it_out(photos, tiny):
    file = datakit.write(photos / "a.jsonl", datakit.row(image="out.png"), datakit.row(image="in/a.png"))
    config = datakit.config(
        train_jsonl=str(file), image_root=str(photos), on_bad_record="skip", max_bad_records=1, images_per_user_turn=1
    )
    line = source.training(config, augmentation=Pipeline(), encoder=datakit.encoder(tiny), seed=17)
    assert [part.line for part in line.parts] == [2]
    assert [each.line for each in line.bad] == [1]


def test_a_root_is_made_absolute_and_must_be_there(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert existing("x", ["照片 a"]) == [str(photos)]
    data = DataConfig(train_jsonl="a.jsonl", image_root="照片 a")
    assert files.prepared(data, tmp_path).image_root == [str(photos)]
    assert files.prepared(DataConfig(train_jsonl="a.jsonl"), tmp_path).image_root is None
    for wrong in ("没有", "secret.png"):
        with pytest.raises(InputError, match=f"data.image_root: {wrong} is no folder"):
            files.prepared(DataConfig(train_jsonl="a.jsonl", image_root=[wrong]), tmp_path)


@pytest.mark.parametrize("wrong", [3, "", [1], ["a", ""], {"a": 1}])
def test_other_values_are_refused(wrong):
    for build in (
        lambda: DataConfig(train_jsonl="a", image_root=wrong),
        lambda: CaptionConfig(checkpoint="a", input="a", image_root=wrong),
        lambda: StageAConfig(checkpoint="a", input="a", image_root=wrong),
    ):
        with pytest.raises(ValueError, match="image_root is .*, expected a path, a list of paths"):
            build()


@pytest.mark.parametrize(
    ("value", "roots"),
    [
        ("/照片 a/(1), b=c", ["/照片 a/(1), b=c"]),
        ("[/a,/b]", ["/a", "/b"]),
        ("['/照片 a','/b,c']", ["/照片 a", "/b,c"]),
        ("'[odd]'", ["[odd]"]),
        ("null", []),
    ],
)
def test_it_is_written_as_a_path_or_a_list(value, roots):
    assert compose("train", [f"data.image_root={value}"]).data.image_roots == roots


def test_captions_of_a_jsonl_a_folder_or_an_image(photos):
    roots = [str(photos)]
    file = datakit.write(photos / "a.jsonl", {"images": ["in/a.png"]}, "", {"images": ["in/a.png", "out.png"]})
    with pytest.raises(InputError, match=rf"{file}:3: images: out.png; expected a path that leads into image_root"):
        images_of(file, roots)
    assert len(images_of(file)) == 3
    assert images_of(photos / "in", roots) == [photos / "in" / "a.png"]
    for given in (photos, photos / "out.png"):
        with pytest.raises(InputError, match=r"input: .*(out|loop).png leads out of image_root"):
            images_of(given, roots)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"images": ["\xff.png"]}', "json: byte 13 is 0xff"),
        (b"[" * 9000, "json: "),
        (b'{"images": ["a.png"], "images": ["b.png"]}', "json: key 'images' appears twice"),
        (b"[1]", "json: list"),
        (b'{"images": "a.png"}', "images: a.png; expected a list of paths"),
    ],
)
def test_a_bad_line_of_a_jsonl_to_caption_is_named(tmp_path, line, what):
    file = datakit.write(tmp_path / "a.jsonl", {"images": ["a.png"]}, line)
    with pytest.raises(InputError) as caught:
        images_of(file)
    assert str(caught.value).startswith(f"{file}:2: {what}")


def test_a_group_with_an_image_that_leads_out_is_a_fault(photos, tmp_path):
    mission = tmp_path / "root" / "检查"
    for group in ("g1", "g2"):
        datakit.picture(mission / group / "1.png")
    os.symlink(tmp_path / "secret.png", mission / "g2" / "2.png")
    found = tree.read(tmp_path / "root", {"检查": ""}).confined([str(tmp_path / "root")])
    assert [group.name for group in found.missions[0].groups] == ["g1"]
    assert found.faults == (f"{mission}/g2/2.png: leads out of image_root, {tmp_path / 'root'}",)
    assert len(tree.read(tmp_path / "root", {"检查": ""}).confined([]).missions[0].groups) == 2
