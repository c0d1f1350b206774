"""JSONL lines become checked values. Every error names `file:line`, the field, the value and what was expected."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dvlm.data.dialogue import parse_dialogue, plain
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.values import Annotation, Dialogue, InputError, Record, printable

BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 1 << 24  # bytes
LONGEST_SIDE = 1_000_000  # pixels
LARGEST = sys.float_info.max
SHOWN = 200  # characters of a value in an error
GEOMETRY = {kind.key: kind for kind in Kind}
FIELDS = {"images", "width", "height", "summary", "objects"}


def lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The (line number, bytes) of each non-blank line; a byte order mark and white space around it are taken off.

    Of a line that is too long comes a piece, which `loads` refuses.
    """
    try:
        handle = file.open("rb")
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise InputError(f"{file}: {reason}; check data.train_jsonl and data.val_jsonl") from error
    with handle:
        for number, raw in enumerate(iter(lambda: handle.readline(LONGEST_LINE + 2), b""), 1):
            text = ended(raw.removeprefix(BOM) if number == 1 else raw)
            if text.strip():
                yield number, text


def ended(raw: bytes) -> bytes:
    """A line without its end and the white space around it; with it where it is too long, for `loads` to see."""
    text = raw.rstrip(b"\r\n")
    return text if len(text) > LONGEST_LINE else text.strip()


def parse(file: Path, line: int, raw: bytes) -> Record | Dialogue:
    """One line: a record, or a dialogue where it has `messages`. Raises InputError naming file, line and field."""
    fail = failing(file, line)
    row = loads(raw, fail)
    return parse_dialogue(file, line, row, fail) if "messages" in row else _record(file, line, row, fail)


def check_kind(part: Record | Dialogue, first: type) -> None:
    """Raise InputError for a line of another type than the `first` line of its file."""
    if not isinstance(part, first):
        found = f"a {type(part).__name__.lower()} among {first.__name__.lower()}s"
        fail = failing(part.file, part.line)
        raise fail("messages", found, "records or dialogues in one file, not both; split it in two")


def loads(raw: bytes, fail: Callable[..., InputError]) -> dict[str, Any]:
    """The JSON object of a line, every text of which can be written as UTF-8 again."""
    if len(raw) > LONGEST_LINE:
        raise fail("json", f"a line of more than {LONGEST_LINE:,} bytes", "one JSON object a line, and none so long")
    try:
        text = raw.decode("utf-8")
        row = json.loads(text, object_pairs_hook=_unique, parse_constant=_constant)
        if "\\u" in text:
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is 0x{raw[error.start]:02x}"
        raise fail("json", byte, "UTF-8; save the file as UTF-8") from error
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise fail("json", half, "escapes of whole characters: this is half of a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise fail("json", f"{error.msg} at column {error.colno}", "one JSON object a line") from error
    except (ValueError, RecursionError) as error:
        raise fail("json", str(error), "standard JSON, not too deep, with distinct keys and finite numbers") from error
    if not isinstance(row, dict):
        raise fail("json", type(row).__name__, "one JSON object a line")
    return row


class RecordError(InputError):
    """A bad line of a JSONL file: `what` is wrong there; `field` is where, indices left out: `objects.desc`.

    `others` are the errors of the line's other bad objects.
    """

    others: tuple[RecordError, ...] = ()

    def __init__(self, file: Path, line: int, field: str, what: str) -> None:
        super().__init__(file, line, field, what)
        self.file, self.line, self.what = file, line, what
        self.field = re.sub(r"\[\d+\]", "", field)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def failing(file: Path, line: int) -> Callable[[str, Any, str], RecordError]:
    """What builds this line's errors: fail(field, value, expected)."""

    def fail(field: str, value: Any, expected: str) -> RecordError:
        shown = printable((value if isinstance(value, str) else _written(value))[:SHOWN])
        return RecordError(file, line, field, f"{field}: {shown}; expected {expected}")

    return fail


def _written(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        # What could be read at one depth of calls cannot always be written at another.
        return f"a {type(value).__name__} of too many levels"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key '{twice}' appears twice")
    return row


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _record(file: Path, line: int, row: dict[str, Any], fail: Callable[..., InputError]) -> Record:
    unknown = set(row) - FIELDS
    if unknown:
        raise fail("fields", sorted(unknown), f"only {', '.join(sorted(FIELDS))}")
    images = row.get("images")
    if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], str) or not images[0]:
        raise fail("images", images, "a list with one path")
    width, height = (_size(row, name, fail) for name in ("width", "height"))
    objects = row.get("objects")
    if objects is None and row.get("summary") is None:
        raise fail("objects", None, "objects (a list, possibly empty), or a summary")
    return Record(
        file=file,
        line=line,
        image=file.parent / images[0],
        width=width,
        height=height,
        objects=None if objects is None else _objects(objects, width, height, fail),
        summary=_text("summary", row["summary"], fail) if row.get("summary") is not None else None,
    )


def _size(row: dict[str, Any], name: str, fail: Callable[..., InputError]) -> int:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST_SIDE:
        raise fail(name, value, f"a whole number of pixels from 1 to {LONGEST_SIDE:,}")
    return value


def _text(field: str, value: Any, fail: Callable[..., InputError]) -> str:
    if not isinstance(value, str) or not value.strip():
        raise fail(field, value, "a non-empty text")
    return plain(field, value, fail)


def _objects(objects: Any, width: int, height: int, fail: Callable[..., InputError]) -> Annotation:
    if not isinstance(objects, list):
        raise fail("objects", objects, "a list")
    shapes, descs, bad = [], [], []
    for index, item in enumerate(objects):
        name = f"objects[{index}]"
        try:
            if not isinstance(item, dict):
                raise fail(name, item, "an object with one geometry and a desc")
            shapes.append(_shape(name, item, fail))
            descs.append(_text(f"{name}.desc", item.get("desc"), fail))
        except RecordError as error:
            bad.append(error)
    if bad:
        bad[0].others = tuple(bad[1:])
        raise bad[0]
    return Annotation(width, height, Shapes.build(shapes), tuple(descs))


def _shape(name: str, item: dict[str, Any], fail: Callable[..., InputError]) -> tuple[Kind, list[float]]:
    unknown = set(item) - set(GEOMETRY) - {"desc", "line_points"}
    if unknown:
        raise fail(name, sorted(unknown), f"only desc and one of {', '.join(GEOMETRY)}")
    present = [key for key in GEOMETRY if key in item]
    if len(present) != 1:
        raise fail(name, present, f"exactly one geometry of {', '.join(GEOMETRY)}")
    key, flat = present[0], item[present[0]]
    if not isinstance(flat, list) or not _finite(flat):
        raise fail(f"{name}.{key}", flat, "a list of finite numbers")
    _check_count(f"{name}.{key}", GEOMETRY[key], flat, fail)
    if "line_points" in item and (key != "line" or item["line_points"] != len(flat) // 2):
        raise fail(f"{name}.line_points", item["line_points"], f"{len(flat) // 2}, on a line only")
    return GEOMETRY[key], [float(value) for value in flat]


def _finite(flat: list[Any]) -> bool:
    # JSON knows whole numbers that no float can hold.
    return {int, float}.issuperset(map(type, flat)) and all(-LARGEST <= value <= LARGEST for value in flat)


def _check_count(name: str, kind: Kind, flat: list[float], fail: Callable[..., InputError]) -> None:
    if kind is Kind.BBOX and len(flat) != 4:
        raise fail(name, flat, "4 numbers: x1, y1, x2, y2")
    if kind is Kind.BBOX and (flat[0] > flat[2] or flat[1] > flat[3]):
        raise fail(name, flat, "x1 <= x2 and y1 <= y2")
    if kind is Kind.QUAD and len(flat) != 8:
        raise fail(name, flat, "8 numbers: four corners x, y")
    if kind is Kind.LINE and (len(flat) < 4 or len(flat) % 2):
        raise fail(name, flat, "an even number of at least 4 numbers")
