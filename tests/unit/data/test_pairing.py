"""Which records share a turn: a pure function that pairs anew every epoch and forgets nobody."""

from pathlib import Path

import pytest

from dvlm.config.compose import check_overrides, compose
from dvlm.data import pairing
from dvlm.values import Dialogue, InputError, Mode, Record

RECORDS = [Record(Path("a.jsonl"), n, Path(f"{n}.png"), 8, 8, None, "a") for n in range(1, 24)]


def turn(epoch, index, *, parts=RECORDS, seed=17, per_turn=2, ratio=0.5):
    return pairing.pair(parts, epoch, index, seed=seed, per_turn=per_turn, summary_ratio=ratio)


def epoch(number, **options):
    count = pairing.turn_count(len(RECORDS), options.get("per_turn", 2))
    return [turn(number, index, **options) for index in range(count)]


@pytest.mark.parametrize("per_turn", [1, 2, 3, 22, 23, 50])
def test_every_record_once_an_epoch_and_a_short_last_turn(per_turn):
    turns = epoch(3, per_turn=per_turn)
    sizes = [len(t.records) for t in turns]
    assert sorted(r.line for t in turns for r in t.records) == list(range(1, 24))
    assert sizes[:-1] == [per_turn] * (len(turns) - 1)
    assert sizes[-1] == 23 - per_turn * (len(turns) - 1) > 0
    assert [(t.epoch, t.index) for t in turns] == [(3, index) for index in range(len(turns))]


def test_epochs_pair_anew():
    pairs = [{frozenset(r.line for r in t.records) for t in epoch(number)} for number in range(6)]
    for one in range(6):
        for other in range(one):
            assert len(pairs[one] & pairs[other]) <= 4, (one, other)


def test_seeds_pair_differently_and_the_same_seed_alike():
    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(0, seed=18)


def test_the_order_of_calls_does_not_matter():
    forwards = {(e, i): turn(e, i) for e in range(8) for i in range(12)}
    pairing.permutation.cache_clear()
    backwards = {(e, i): turn(e, i) for e in reversed(range(8)) for i in reversed(range(12))}
    assert forwards == backwards


def test_a_mode_belongs_to_a_whole_turn_and_to_nothing_else():
    modes = [turn(e, i).mode for e in range(8) for i in range(12)]
    assert modes == [turn(e, i, per_turn=3 if i < 7 else 2).mode for e in range(8) for i in range(12)]
    assert [turn(e, 0).mode for e in range(40)].count(Mode.SUMMARY) not in (0, 40)
    assert [turn(0, i, per_turn=1).mode for i in range(23)].count(Mode.SUMMARY) not in (0, 23)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.7, 1.0])
def test_the_share_of_summaries(ratio):
    turns = [turn(e, i, ratio=ratio) for e in range(200) for i in range(12)]
    share = sum(t.mode is Mode.SUMMARY for t in turns) / len(turns)
    # Five standard deviations of a fair draw; none at all at either end.
    assert abs(share - ratio) <= 5 * (ratio * (1 - ratio) / len(turns)) ** 0.5


def test_dialogues_are_turns_of_their_own():
    dialogues = [Dialogue(Path("a.jsonl"), n, (), ()) for n in range(1, 10)]
    first, second = ([turn(e, i, parts=dialogues, per_turn=1) for i in range(9)] for e in range(2))
    assert sorted(t.dialogue.line for t in first) == list(range(1, 10))
    assert [t.dialogue.line for t in first] != [t.dialogue.line for t in second]
    assert {t.mode for t in first} == {None}
    assert first[0].place == f"a.jsonl:{first[0].dialogue.line}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.images_per_user_turn=0", "data.images_per_user_turn is 0, expected at least 1"),
        ("data.images_per_user_turn=1.5", "data.images_per_user_turn"),
        ("data.summary_ratio=1.5", "data.summary_ratio is 1.5, expected a number from 0.0 to 1.0"),
        ("data.summary_ratio=nan", "data.summary_ratio is nan"),
        ("data.summary_ratio=-0.1", "data.summary_ratio is -0.1"),
        ("data.sample_limit=0", "data.sample_limit is 0"),
    ],
)
def test_settings_that_make_no_turns(override, message):
    with pytest.raises(InputError) as caught:
        compose("train", [override])
    assert message in str(caught.value)


def test_there_is_no_mode_to_set():
    with pytest.raises(InputError, match="unknown key 'data.mode'"):
        check_overrides(["data.mode=dense"], "train")
