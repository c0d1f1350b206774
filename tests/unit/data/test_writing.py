"""A file appears whole or not at all, and nothing else is left behind."""

import os
from pathlib import Path

import pytest

from dvlm.data.writing import seen_from, whole
from dvlm.values import InputError


def test_a_file_appears_when_the_block_ends(tmp_path):
    file = tmp_path / "新 的" / ("名" * 80 + ".jsonl")
    with whole(file, overwrite=False) as handle:
        handle.write("螺丝\n")
        assert not file.exists()
    assert file.read_bytes() == "螺丝\n".encode()
    assert os.listdir(file.parent) == [file.name]


def test_a_block_that_raises_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), whole(file, overwrite=True) as handle:
        handle.writelines("new" * 100_000 + str(1 / left) for left in (1, 0))
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_what_the_disk_refuses_is_named(tmp_path):
    (tmp_path / "file").touch()
    refused = [tmp_path / "file" / "a.jsonl", tmp_path / ("a" * 300), tmp_path]
    for path in refused:
        with pytest.raises(InputError, match="cannot be written: "), whole(path, overwrite=True) as handle:
            handle.write("text")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("/data/set/a.jpg", "a.jpg"),
        ("/data/set/图 1/a.jpg", "图 1/a.jpg"),
        ("/data/other/a.jpg", "../other/a.jpg"),
        ("/data/settled/a.jpg", "../settled/a.jpg"),
        ("/a.jpg", "../../a.jpg"),
    ],
)
def test_images_are_named_from_the_folder(image, path):
    assert seen_from(Path("/data/set"), Path(image)) == path
