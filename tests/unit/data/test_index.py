"""A mapped JSONL file is what a plain reading of it is, in any process, and costs two numbers a line."""

import json
import mmap
import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import datakit
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvlm.data import index
from dvlm.data.index import RecordFile
from dvlm.data.records import BOM
from dvlm.values import Dialogue, InputError, Record


def line(number, **changes):
    return json.dumps(datakit.row(width=number, **changes), ensure_ascii=False).encode()


def naive(content):
    """(line number, width) of each record, read as one would by hand: widths tell the records apart."""
    rows = content.removeprefix(BOM).split(b"\n")
    return [(number, json.loads(row)["width"]) for number, row in enumerate(rows, 1) if row.strip()]


def seen(parts):
    return [(part.line, part.width) for part in parts]


CONTENTS = {
    "plain": line(1) + b"\n" + line(2) + b"\n" + line(3) + b"\n",
    "no newline at the end": line(1) + b"\n" + line(2),
    "one line": line(7),
    "one line and its end": line(7) + b"\n",
    "byte order mark": BOM + line(1) + b"\n" + line(2) + b"\n",
    "byte order mark alone on its line": BOM + b"\n" + line(2) + b"\n" + line(3),
    "byte order mark before white space": BOM + b" \r\n\t" + line(2),
    "Windows": line(1) + b"\r\n" + line(2) + b"\r\n\r\n" + line(4) + b"\r\n",
    "blank lines": b"\n\n" + line(3) + b"\n \t\n\n" + line(6) + b"\n\n \n",
    "leading and trailing white space": b"  " + line(1) + b" \n\t" + line(2) + b"\t\r\n \x0b\x0c\n",
    "a lone carriage return inside": line(1).replace(b", ", b",\r ") + b"\n" + line(2),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_it_is_what_a_plain_reading_is(tmp_path, content):
    file = tmp_path / "记录 a.jsonl"
    file.write_bytes(content)
    wanted = naive(content)
    parts = RecordFile(file)
    assert len(parts) == len(wanted)
    assert seen(parts) == wanted
    assert seen(parts[i] for i in range(-len(parts), 0)) == wanted


LINES = st.sampled_from([b"", b" ", b"\r", b"\t\r", line(1), line(20) + b"\r", b" " + line(300), line(4) + b"  "])


@given(st.lists(LINES, min_size=1), st.booleans(), st.booleans(), st.integers(3, 400))
@settings(max_examples=60, deadline=None)
def test_any_file(tmp_path_factory, lines, marked, ended, window):
    """With windows that cut the file anywhere."""
    content = (BOM if marked else b"") + b"\n".join(lines) + (b"\n" if ended else b"")
    file = tmp_path_factory.mktemp("any") / "a.jsonl"
    file.write_bytes(content)
    wanted = naive(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "WINDOW", window)
        if wanted:
            assert seen(RecordFile(file)) == wanted
        else:
            with pytest.raises(InputError, match="no records"):
                RecordFile(file)


def test_the_values_of_a_record(tmp_path):
    objects = [{"quad": [1, 2, 3, 2, 3, 4, 1, 4], "desc": "标签/文字:A12"}, {"line": [0, 1, 2, 3.5], "desc": "线缆"}]
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(), datakit.row(image="b.png", objects=objects))
    record = RecordFile(file)[1]
    assert (record.file, record.line, record.image) == (file, 2, tmp_path / "b.png")
    assert record.objects.shapes.of(1).tolist() == [[0, 1], [2, 3.5]]
    assert record.objects.descs == ("标签/文字:A12", "线缆")


def test_a_limit_takes_the_first_records(tmp_path):
    content = CONTENTS["blank lines"] + line(10) + b"\n" + line(11)
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    assert seen(RecordFile(file, 3)) == naive(content)[:3]
    assert seen(RecordFile(file, 99)) == naive(content)
    # A bad line behind the limit is not read.
    file.write_bytes(line(1) + b"\n" + line(2) + b"\nbroken\n")
    assert seen(RecordFile(file, 2)) == [(1, 1), (2, 2)]
    with pytest.raises(InputError, match=f"{file}:3: json: "):
        list(RecordFile(file, 3))


@pytest.mark.parametrize("chosen", [slice(None), slice(1, 3), slice(-2, None), slice(None, None, -2), slice(5, 9)])
def test_slices(tmp_path, chosen):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\n".join(line(number) for number in range(1, 7)))
    assert seen(RecordFile(file)[chosen]) == [(number, number) for number in range(1, 7)][chosen]


def test_beyond_the_end(tmp_path):
    parts = RecordFile(datakit.write(tmp_path / "a.jsonl", datakit.row()))
    for wrong in (1, -2):
        with pytest.raises(IndexError):
            parts[wrong]


def test_another_process_reads_the_same(tmp_path):
    """A worker that is started, not forked, gets the file by pickle: its name and two arrays, not its bytes."""
    file = tmp_path / "a.jsonl"
    content = BOM + b"\n".join(line(number, summary="光" * 1000) for number in range(1, 200))
    file.write_bytes(content)
    parts = RecordFile(file, 150)
    pickled = pickle.dumps(parts)
    assert len(pickled) < 150 * 16 + 2000 < len(content) // 100
    again = pickle.loads(pickled)  # noqa: S301
    assert (seen(again), again.kind, repr(again)) == (naive(content)[:150], Record, "150 records")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        found = pool.submit(pickle.dumps, parts).result()
        last = pool.submit(parts.__getitem__, -1).result()
    assert found == pickled
    assert (last.line, last.width, last.image) == (150, 150, tmp_path / "a.png")


def test_a_million_lines_cost_two_numbers_each(tmp_path):
    count = 1_000_000
    file = tmp_path / "a.jsonl"
    file.write_bytes(line(1) + b"\n" + b"{}\n" * (count - 1))
    tracemalloc.start()
    try:
        parts = RecordFile(file)
        held = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    assert len(parts) == count
    arrays = [value for value in vars(parts).values() if isinstance(value, np.ndarray)]
    assert [(array.dtype, array.shape) for array in arrays] == [(np.int64, (count,))] * 2
    others = {type(value) for value in vars(parts).values()} - {np.ndarray}
    assert others == {type(file), mmap.mmap, type}
    blocks = sum(trace.count for trace in held.statistics("filename"))
    size = sum(trace.size for trace in held.statistics("filename"))
    assert blocks < 2000
    assert size < 16 * count + 1_000_000
    with pytest.raises(InputError, match=f"{file}:{count}: images: null"):
        parts[-1]


@pytest.mark.parametrize("first", ["record", "dialogue"])
def test_a_file_of_both_kinds(tmp_path, first):
    spoken = {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "好"}]}
    rows = [datakit.row(), spoken] if first == "record" else [spoken, datakit.row()]
    parts = RecordFile(datakit.write(tmp_path / "a.jsonl", rows[0], rows[0], rows[1]))
    assert parts.kind is (Record if first == "record" else Dialogue)
    assert isinstance(parts[1], parts.kind)
    other = "dialogue" if first == "record" else "record"
    with pytest.raises(
        InputError, match=rf"a.jsonl:3: messages: a {other} among {first}s; expected .* split it in two"
    ):
        parts[2]


@pytest.mark.parametrize("content", [b"", BOM, b"\n \r\n\t\n", BOM + b"\n"], ids=["0 bytes", "mark", "blank", "both"])
def test_an_empty_file(tmp_path, content):
    file = tmp_path / "空.jsonl"
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"^{file}: no records: the file is empty$"):
        RecordFile(file)


def test_a_file_that_cannot_be_read(tmp_path):
    for file, reason in ((tmp_path / "没有.jsonl", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=f"^{file}: cannot be read: {reason}; check data.train_jsonl and data.val"):
            RecordFile(file)
