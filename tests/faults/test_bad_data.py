"""Records and pictures of any bytes: what comes out can be trained on, or is an error with file and line."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from unit.data import datakit

from dvlm.data import images, verify
from dvlm.data.index import RecordFile
from dvlm.data.records import RecordError
from dvlm.values import InputError

pytestmark = pytest.mark.faults

CASES = {"bytes": 500, "edited": 1000, "values": 1000, "pictures": 2500}  # 5,000 together
OFTEN = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
LONG = 10  # times as many under `slow`, each time others

BOX = {"bbox_2d": [4, 5, 30, 40], "desc": "标签/文字:A12"}
ROWS: list[dict[str, Any]] = [
    datakit.row(objects=[BOX, {"quad": [1, 1, 9, 2, 8, 9, 0, 8], "desc": "b"}, {"line": [0, 0, 5, 5.5], "desc": "c"}]),
    {
        "messages": [
            {"role": "system", "content": "你"},
            {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "?"}]},
            {"role": "assistant", "content": "b"},
        ],
        "images": ["a.png"],
    },
    {"messages": [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": ""}], "images": ["a.png"]},
]
PIECES = [
    *(
        b"",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\xe2\x80\xa8",
        b"\\ud83d",
        b"\\u0000",
        b"<|im_end|>",
        b"<image>",
    ),
    *(
        b"[" * 3000,
        b'{"a":' * 3000,
        b"9" * 5000,
        b"1e999",
        b"-0.0",
        b"NaN",
        b"Infinity",
        b"null",
        b"true",
        b'"',
        b",",
        b"}",
    ),
    *(b'"width": 1, ', b'"images": [], ', b"../" * 50, b"/dev/zero", b"data:", b"http://a/b.png"),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A JSONL to write to, with a picture beside it."""
    return datakit.write(tmp_path_factory.mktemp("fuzz") / "a.jsonl", datakit.row())


def edits(text: bytes) -> st.SearchStrategy[bytes]:
    """The text with up to four of its pieces replaced, mostly by what is awkward."""
    place = st.integers(0, len(text))
    piece = st.sampled_from(PIECES) | st.binary(max_size=6)
    one = st.tuples(place, st.integers(0, 12), piece)

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        changed = text
        for at, length, put in changes:
            changed = changed[:at] + put + changed[at + length :]
        return changed

    return st.lists(one, min_size=1, max_size=4).map(apply)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.integers(10**18, 10**400)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", " ", "<|im_end|>", "a.png", "../a.png", "/dev/zero", "图\n", "a\0b", "x" * 9999, "\u202e"])
)
KEYS = st.sampled_from(["bbox_2d", "quad", "line", "line_points", "desc", "role", "content", "type", "image", "text"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something can be put in a row."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inner for found in places(each, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with `new` at a place."""
    if not path:
        return new
    key, *rest = path
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[key] = put(value[key], tuple(rest), new)
    return changed


def changed_rows() -> st.SearchStrategy[bytes]:
    """Good rows with other values in one or two places."""

    def of(row: dict[str, Any]) -> st.SearchStrategy[Any]:
        awkward = st.sampled_from([10**400, -(10**400), 1e308, True, "4", [], {}, [[]], "a\ud83d"])
        values = VALUES | st.integers(0, 48) | st.text(min_size=1, max_size=8) | awkward
        one = st.tuples(st.sampled_from(places(row)[1:]), values).map(lambda pair: put(row, *pair))
        keys = st.tuples(st.sampled_from(sorted(row)), VALUES, st.text(max_size=5)).map(
            lambda three: {key: value for key, value in row.items() if key != three[0]} | {three[2]: three[1]}
        )
        return one | keys

    escaped = st.tuples(st.one_of(*map(of, ROWS)), st.booleans())
    return escaped.map(lambda pair: json.dumps(pair[0], ensure_ascii=pair[1]).encode(errors="surrogatepass"))


def check_error(error: RecordError, file: Path, lines: int) -> None:
    """It names file and line, on one line that can be printed, and says what was expected."""
    assert error.file == file
    assert 1 <= error.line <= lines
    assert str(error).startswith(f"{file}:{error.line}: ")
    assert "; expected " in error.what
    assert len(str(error)) < 1500
    assert str(error).isprintable()
    str(error).encode()


def look_at(file: Path, text: bytes, model: Path) -> bool:
    """Whether the lines are good; then they can be drawn, measured and rendered too."""
    file.write_bytes(text)
    try:
        parts = RecordFile(file)
        verify.check(parts, datakit.config(verify_images="full"))
    except RecordError as error:
        check_error(error, file, text.count(b"\n") + 1)
        return False
    except InputError as error:
        return check_equal(str(error), f"{file}: no records: the file is empty")
    line = datakit.line(parts, model, images_per_user_turn=1)
    for index in range(line.turns):
        sample = line.sample(0, index)
        assert line.lengths(0, [index])[0].tolist() == [len(sample.input_ids), int((sample.labels >= 0).sum())]
    return True


def check_equal(found: str, wanted: str) -> bool:
    assert found == wanted
    return False


def explore(strategy: st.SearchStrategy[Any], count: int, check: Any, often: settings = OFTEN) -> int:
    """Run `check` on so many cases; returns how many it found good."""
    good = 0

    @given(strategy)
    @settings(often, max_examples=count)
    def run(case: Any) -> None:
        nonlocal good
        good += bool(check(case))

    run()
    return good


def bytes_of_any_kind() -> st.SearchStrategy[bytes]:
    return st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=5).map(b"".join)


def edited_rows() -> st.SearchStrategy[bytes]:
    return st.one_of(*(edits(json.dumps(row, ensure_ascii=False).encode()) for row in ROWS))


JSONL = {"bytes": bytes_of_any_kind, "edited": edited_rows, "values": changed_rows}


@pytest.mark.parametrize("kind", JSONL)
def test_any_line_is_a_value_or_an_error_with_its_place(file, tiny, kind):
    good = explore(JSONL[kind](), CASES[kind], lambda text: look_at(file, text, tiny))
    # Of what is hardly changed some must pass, or nothing is said of what is behind the first check.
    assert good < CASES[kind] // 2
    assert (good > CASES[kind] // 200) == (kind != "bytes")  # random: seldom as few as a fiftieth


def pictures() -> list[bytes]:
    """A small picture in every form: formats, modes, depths, with EXIF data."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6
    found = []
    for kind, mode in [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK")),
        *(("PNG", mode) for mode in ("RGB", "RGBA", "P", "LA", "1", "I;16")),
        *(("TIFF", mode) for mode in ("RGB", "CMYK", "I;16")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("GIF", "P"), ("BMP", "RGB"), ("PPM", "RGB")),
    ]:
        image = Image.fromarray(pixels)
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, kind, **({} if kind in ("GIF", "BMP", "PPM") else {"exif": exif}))
        found.append(buffer.getvalue())
    return found


def damaged_pictures() -> st.SearchStrategy[bytes]:
    """Bytes replaced, most of them in the header; cut; or no picture at all."""

    def of(whole: bytes) -> st.SearchStrategy[bytes]:
        place = st.integers(0, min(len(whole), 200) - 1) | st.integers(0, len(whole) - 1)
        change = st.tuples(place, st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255))

        def apply(pair: tuple[list[tuple[int, int]], int]) -> bytes:
            changes, length = pair
            made = bytearray(whole)
            for at, value in changes:
                made[at] = value
            return bytes(made[:length])

        length = st.just(len(whole)) | st.integers(0, len(whole))
        return st.tuples(st.lists(change, max_size=6), length).map(apply)

    return st.one_of(*map(of, pictures()), st.binary(max_size=40))


def look_at_picture(file: Path, content: bytes) -> bool:
    """Whether a picture is good; then header and pixels agree."""
    path = file.parent / "图 1.jpg"
    path.write_bytes(content)
    width, height, refused = 12, 16, ""
    try:
        width, height = images.size(path)
    except images.ImageError as error:
        refused = str(error)
    # Damage may make a side longer than a record can say.
    width, height = min(width, 1_000_000), min(height, 1_000_000)
    file.write_text(json.dumps(datakit.row(image=path.name, width=width, height=height, objects=[])), encoding="utf-8")
    try:
        verify.check(RecordFile(file), datakit.config(verify_images="full"))
    except RecordError as error:
        check_error(error, file, 1)
        assert str(path) in str(error)  # noqa: PT017
        return check_equal(refused, refused and error.what.removeprefix("images: ").partition("; expected an image")[0])
    assert not refused
    assert images.load(path).shape == (height, width, 3)
    return True


def test_any_picture_is_pixels_or_an_error_with_its_place(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        good = explore(damaged_pictures(), CASES["pictures"], lambda content: look_at_picture(file, content))
    assert CASES["pictures"] // 10 < good < CASES["pictures"] * 9 // 10


@pytest.mark.slow
def test_more_of_the_same(file, tiny):
    often = settings(OFTEN, derandomize=False)
    for kind, strategy in JSONL.items():
        explore(strategy(), CASES[kind] * LONG, lambda text: look_at(file, text, tiny), often)
    explore(damaged_pictures(), CASES["pictures"] * LONG, lambda content: look_at_picture(file, content), often)
