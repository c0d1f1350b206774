"""A JSONL line in messages form: `{"messages": [...], "images": [...]}`, a turn of its own.

The value key of a content item equals its type: `{"type": "image", "image": path}`. `image_url` is normalised to it;
any other mismatch raises, since a skipped image would train the model on text alone. `<image>` marks inside a plain
text stand for `images`, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dvlm.values import Dialogue, InputError

ROLES = ("system", "user", "assistant")
MARK = "<image>"
SPECIAL_FORM = "<|"  # how every special token begins
Fail = Callable[[str, Any, str], InputError]


def parse_dialogue(file: Path, line: int, row: dict[str, Any], fail: Fail) -> Dialogue:
    """Check and normalise one dialogue; raises InputError with file, line and field."""
    unknown = set(row) - {"messages", "images"}
    if unknown:
        raise fail("fields", sorted(unknown), "only messages and images")
    listed = row.get("images", [])
    if not isinstance(listed, list) or not all(isinstance(path, str) and path for path in listed):
        raise fail("images", listed, "a list of paths")
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise fail("messages", messages, "a non-empty list")
    pending, found, normal = list(listed), [], []
    for index, message in enumerate(messages):
        name = f"messages[{index}]"
        items = _content(name, message, pending, fail)
        found += [item["image"] for item in items if item["type"] == "image"]
        normal.append({"role": message["role"], "content": items})
    if pending and [str(path) for path in found] != listed:
        raise fail("images", pending, f"one {MARK} or image item for each path")
    _check_roles(normal, fail)
    return Dialogue(file, line, tuple(file.parent / path for path in found), tuple(normal))


def _content(name: str, message: Any, pending: list[str], fail: Fail) -> list[dict[str, str]]:
    if not isinstance(message, dict) or message.get("role") not in ROLES or set(message) != {"role", "content"}:
        raise fail(name, message, f"a role ({', '.join(ROLES)}) and a content")
    content = message["content"]
    if isinstance(content, str):
        return _split_marks(f"{name}.content", content, pending, fail)
    if not isinstance(content, list):
        raise fail(f"{name}.content", content, "a text or a list of items")
    return [_item(f"{name}.content[{i}]", item, fail) for i, item in enumerate(content)]


def _split_marks(name: str, text: str, pending: list[str], fail: Fail) -> list[dict[str, str]]:
    items = []
    for number, part in enumerate(text.split(MARK)):
        if number:
            if not pending:
                raise fail(name, text, f"as many {MARK} marks as images")
            items.append({"type": "image", "image": pending.pop(0)})
        if part:
            items.append({"type": "text", "text": plain(name, part, fail)})
    return items


def _item(name: str, item: Any, fail: Fail) -> dict[str, str]:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "image_url" and set(item) == {"type", "image_url"}:
        url = item["image_url"]
        item = {"type": "image", "image": url.get("url") if isinstance(url, dict) else url}
        kind = "image"
    if kind not in ("image", "text") or set(item) != {"type", kind} or not isinstance(item[kind], str):
        raise fail(name, item, "{'type': 'image', 'image': path} or {'type': 'text', 'text': text}: key equals type")
    if kind == "text":
        if MARK in plain(name, item["text"], fail):
            raise fail(name, item["text"], f"no {MARK} mark in a list of items: give the image as an item of its own")
    elif not item["image"] or "://" in item["image"] or item["image"].startswith("data:"):
        raise fail(name, item["image"], "a path on disk")
    return item


def plain(name: str, text: str, fail: Fail) -> str:
    """The text itself; raises fail(name, the place in the text, ...) where it holds the form of a special token."""
    at = text.find(SPECIAL_FORM)
    if at >= 0:
        shown = text[max(0, at - 40) : at + 40]
        raise fail(name, shown, f"no special token: '{SPECIAL_FORM}' would change the structure of the turn")
    return text


def _check_roles(messages: list[dict[str, Any]], fail: Fail) -> None:
    roles = [message["role"] for message in messages]
    spoken = roles[1:] if roles[0] == "system" else roles
    if spoken != ["user", "assistant"] * (len(spoken) // 2) or not spoken:
        raise fail("messages", roles, "an optional system message, then user and assistant in turns")
    for index, message in enumerate(messages):
        if message["role"] != "user" and any(item["type"] == "image" for item in message["content"]):
            raise fail(f"messages[{index}]", "image", "images in user messages only")
