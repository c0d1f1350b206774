"""Stage-B: lines that cannot be judged, the form of verdicts, and the verb on the tiny model, without an image."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from dvlm.config.compose import compose
from dvlm.inference import cases
from dvlm.inference.asking import Request
from dvlm.inference.cases import Case
from dvlm.inference.engine import Reply
from dvlm.inference.verdicts import Verdict, score
from dvlm.stage_b import stage_b
from dvlm.values import InputError


def line(group: str, *summaries: str, label: str = "审核通过", mission: str = "标签检查", **changes: object) -> str:
    told = {f"图片_{number}": summary for number, summary in enumerate([*summaries, "", ""], 1)}
    images = [f"{number}.jpg" for number in range(len(summaries))]
    row = {"group_id": group, "mission": mission, "label": label, "images": images, "per_image": told}
    return json.dumps(row | changes, ensure_ascii=False)


@pytest.fixture
def file(tmp_path) -> Path:
    """Nine lines, three of which can be judged."""
    lines = [
        line("g1", "标签×2", "线缆×1"),
        line("g2", "a", "标签×1", per_image={"图片_2": "标签×1"}),
        line("g3", "标签×1", "  "),
        "{not json",
        line("g1", "again"),
        line("g4", "标签<|im_end|>×1"),
        line("g5", "标签×3", label="审核不通过"),
        line("g6", "x", label="ok"),
        line("g7", "x", mission="未配置"),
        "",
        line("g8", "未审\u2028核", label=""),
        "[]",
    ]
    (tmp_path / "标签检查.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "标签检查.jsonl"


def test_lines_that_cannot_be_judged_are_named(file):
    faults: list[str] = []
    read = cases.read(file.parent, mission="", group_by=None, faults=faults)
    known = cases.check_focus(read, {"标签检查": ""}, faults)
    assert [(case.group_id, case.summaries) for case in known] == [
        ("g1", ("标签×2", "线缆×1")),
        ("g5", ("标签×3",)),
        ("g8", ("未审 核",)),
    ]
    expected = [
        ":2: group g2: 图片_1 is missing",
        ":3: group g3: 图片_2 is '  '",
        ":4: this line is not JSON",
        ":5: group g1 of 标签检查 was there before",
        ":6: group g4: 图片_1 holds a special token",
        ":8: group g6: label is 'ok'",
        ":12: this line is []",
        "未配置: this mission is not configured",
    ]
    assert len(faults) == len(expected)
    for part, fault in zip(expected, faults, strict=True):
        assert part in fault
    assert [case.group_id for case in cases.read(file, mission="未配置", group_by=None, faults=[])] == ["g7"]


def test_a_plain_file_wants_its_grouping(tmp_path):
    rows = [{"image_id": f"site{site}_{number}", "summary": f"线缆×{number}"} for site in (2, 1) for number in (1, 2)]
    file = tmp_path / "summaries.jsonl"
    file.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*rows, {"image_id": "x", "summary": "y"}])
    )
    with pytest.raises(InputError, match="group_by=all"):
        cases.read(file, mission="", group_by=None, faults=[])
    faults: list[str] = []
    grouped = cases.read(file, mission="标签检查", group_by=r"(site\d+)_", faults=faults)
    assert grouped == [
        Case("site2", "标签检查", "", ("线缆×1", "线缆×2")),
        Case("site1", "标签检查", "", ("线缆×1", "线缆×2")),
    ]
    assert "image_id x has no part" in faults[0]
    (alone,) = cases.read(file, mission="", group_by="all", faults=[])
    assert (alone.group_id, len(alone.summaries)) == ("summaries", 5)


def test_the_question_holds_mission_focus_and_summaries():
    assert Case("g", "标签检查", "", ("a", "b")).question("看标签") == "标签检查\n看标签\n图片_1: a\n图片_2: b"
    assert Case("g", "", "", ("a",)).question("") == "图片_1: a"


@pytest.mark.parametrize("text", ["通过", "好\n理由: a", "通过\n理由: ", "通过\n理由: a\nb", "通过 \n理由: a"])
def test_other_answers_are_no_verdicts(text):
    with pytest.raises(InputError, match="expected 通过 or 不通过"):
        Verdict.of(Case("g", "m", "", ("a",)), Reply(Request(images=()), text, True, 5))
    with pytest.raises(InputError, match="cut off after 5 tokens"):
        Verdict.of(Case("g", "m", "", ("a",)), Reply(Request(images=()), text, False, 5))


def test_verdicts_are_counted_against_labels():
    told = [("审核通过", "通过"), ("审核通过", "不通过"), ("审核不通过", "通过"), ("审核不通过", "通过"), ("", "通过")]
    verdicts = [Verdict(Case(f"g{n}", "m", label, ("a",)), said, "r") for n, (label, said) in enumerate(told)]
    assert score(verdicts) == {
        "groups": 4,
        "accuracy": 0.25,
        "false_passes": ["m/g2", "m/g3"],
        "false_fails": ["m/g1"],
        "confusion": {"通过": {"通过": 1, "不通过": 1}, "不通过": {"通过": 2, "不通过": 0}},
    }
    assert score(verdicts[4:]) is None


def test_every_verdict_has_two_lines(tiny, file, tmp_path, capsys):
    """Held to the form, an untrained model gives verdicts; free, it gives none, and says so."""
    given = [f"checkpoint={tiny}", f"input={file}", f"output={tmp_path / 'verdicts.jsonl'}", "engine.max_new_tokens=60"]
    with pytest.raises(SystemExit) as end:
        stage_b(compose("stage_b", [*given, "max_reason_chars=6"]))
    said = capsys.readouterr().out
    assert end.value.code == 1
    assert "图片_1 is missing" in said
    assert "accuracy" in said
    rows = [json.loads(row) for row in (tmp_path / "verdicts.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["group_id"] for row in rows] == ["g1", "g5", "g8"]
    for row in rows:
        assert row["text"] == f"{row['verdict']}\n理由: {row['reason']}"
        assert row["verdict"] in ("通过", "不通过")
        assert 1 <= len(row["reason"]) <= 6
    assert json.loads((tmp_path / "verdicts.json").read_text(encoding="utf-8"))["groups"] == 2
    assert cv2.imread(str(tmp_path / "verdicts.png")).size > 0
    with pytest.raises(SystemExit):
        stage_b(compose("stage_b", [*given, "overwrite=true", "engine.constrained=false"]))
    said = capsys.readouterr().out
    assert "0 of 4 groups judged" in said
    assert said.count("cut off after 60 tokens") + said.count("expected 通过 or 不通过") == 3


def test_bad_patterns_are_named():
    for pattern, message in (("(", "not a regular expression"), ("site", "brackets around")):
        with pytest.raises(InputError, match=message):
            compose("stage_b", ["checkpoint=m", "input=x", f"group_by={pattern}"])
