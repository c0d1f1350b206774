"""logging.jsonl: one line for each set of metrics, and a resumed run goes on where its checkpoint was."""

from __future__ import annotations

import json

import pytest

from dvlm.callbacks.jsonl_logger import FILE, JsonlLogger


@pytest.fixture
def earlier(tmp_path):
    logger = JsonlLogger(tmp_path / "earlier")
    for step in (1, 2, 3):
        logger.log_metrics({"train/loss": 1.0 / step}, step)
    return tmp_path / "earlier"


def steps(directory) -> list[int]:
    return [json.loads(line)["step"] for line in (directory / FILE).read_text().splitlines()]


def test_lines_are_on_disk_at_once(tmp_path):
    logger = JsonlLogger(tmp_path)
    logger.log_metrics({"eval/loss": 0.5}, 7)
    assert json.loads((tmp_path / FILE).read_text()) == {"step": 7, "eval/loss": 0.5}
    logger.log_metrics({"eval/loss": 0.25}, 8)
    assert steps(tmp_path) == [7, 8]


def test_a_resumed_run_brings_the_lines_up_to_its_step(earlier, tmp_path):
    logger = JsonlLogger(tmp_path / "now", (earlier, 2))
    logger.log_metrics({"train/loss": 0.1}, 3)
    assert steps(tmp_path / "now") == [1, 2, 3]
    assert steps(earlier) == [1, 2, 3]


def test_a_run_resumed_in_its_own_directory(earlier):
    JsonlLogger(earlier, (earlier, 1)).log_metrics({"train/loss": 0.1}, 2)
    assert steps(earlier) == [1, 2]


def test_half_a_line_of_a_killed_run_is_dropped(earlier, tmp_path):
    with (earlier / FILE).open("a") as log:
        log.write('{"step": 3, "train/lo')
    JsonlLogger(tmp_path / "now", (earlier, 3))
    assert steps(tmp_path / "now") == [1, 2, 3]


def test_an_earlier_run_without_a_log(tmp_path):
    JsonlLogger(tmp_path / "now", (tmp_path, 3))
    assert steps(tmp_path / "now") == []
