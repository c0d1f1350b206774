"""What is wrong with which rank, from what the ranks say of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from dvlm.scale.watch import Pulse, Sight, verdict

NOW, TIMEOUT = 100.0, 10.0


def sight(*, beat_since: float = NOW, since: float = NOW, **said: Any) -> Sight:
    """A rank that last spoke anew at `beat_since` and last moved at `since`."""
    return Sight(Pulse("node, process 1", at="model.py:3 in forward", **said), beat_since, since)


@pytest.mark.parametrize(
    ("ranks", "wanted"),
    [
        ([sight(), sight()], None),
        ([sight(), sight(beat_since=91)], None),
        ([sight(), sight(beat_since=89)], "rank 1 (node, process 1) is dead"),
        ([sight(), sight(failed="ValueError: no")], "rank 1 (node, process 1) has failed: ValueError: no"),
        # All of them are in one place and none waits: a long step, or rank 0 writes while the others wait in C.
        ([sight(since=80), sight(since=80)], None),
        ([sight(since=80, progress=4), sight(progress=5)], "rank 0 (node, process 1) is stuck"),
        ([sight(since=91, progress=4), sight(progress=5)], None),
        ([sight(since=80, waiting=True), sight(since=80)], "rank 1 (node, process 1) is stuck"),
        ([sight(since=80, waiting=True), sight(since=95)], None),
        ([sight(since=80, waiting=True), sight(since=80, waiting=True)], None),
    ],
)
def test_verdict(ranks, wanted):
    found = verdict(dict(enumerate(ranks)), NOW, TIMEOUT)
    assert (found is None) == (wanted is None), found
    assert (found or "").startswith(wanted or "")


def test_a_stuck_rank_says_where():
    ranks = {0: sight(since=80, progress=4), 1: sight(progress=5)}
    assert "at model.py:3 in forward" in str(verdict(ranks, NOW, TIMEOUT))


def test_only_a_change_renews_a_sight():
    first = sight(beat_since=1, since=2, beat=7, progress=3)
    assert first.seen(first.pulse, 9) == first
    again = first.seen(Pulse("x", beat=8, progress=3), 9)
    assert (again.beat_since, again.progress_since) == (9, 2)


def test_a_rank_that_writes_an_answer_moves_but_is_not_ahead():
    first = sight(since=80, progress=3)
    writing = first.seen(Pulse("x", progress=3, looks=5), 95)
    assert writing.progress_since == 95
    assert verdict({0: sight(since=80, progress=3, waiting=True), 1: writing}, NOW, TIMEOUT) is None
