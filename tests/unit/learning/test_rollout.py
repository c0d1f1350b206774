"""What becomes of completions: cut, counted, left out; and whose turn it is to write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dvlm.config import RlhfConfig
from dvlm.learning.origin import Origin, origin_of, shares
from dvlm.learning.rollout import Rollout
from dvlm.values import Completion, Prompt

END = 9


class Scripted:
    """An engine that writes what it is told, and remembers the first number of each generator."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers, self.numbers = answers, []

    def write(self, prompts: Any, draws: Any) -> list[Completion]:
        self.numbers += [draw.random() for draw in draws]
        return [Completion(torch.tensor(ids), bool(ids) and ids[-1] == END) for ids in self.answers[: len(prompts)]]


class Kept:
    """A layout of prompts of the given lengths, that keeps the answers it is given."""

    max_length = 10

    def __init__(self, *lengths: int) -> None:
        self.lengths, self.answers = lengths, []

    def prompts(self, batch: Any) -> list[Prompt]:
        return [Prompt(torch.zeros(length), torch.zeros(length), None, None) for length in self.lengths]

    def packs(self, batches: Any, answers: Any) -> list[Any]:
        self.answers = [None if a is None else (a.ids.tolist(), a.finished) for own in answers for a in own]
        return []

    def empty(self, batch: Any) -> Any:
        raise AssertionError


class Pack:
    """All that a rollout reads of a batch itself."""

    def __init__(self, pack: int) -> None:
        self.pack = pack


def rolled(origin: Origin, layout: Kept, *answers: list[int]) -> list[float]:
    """The sums of a step of one batch."""
    rollout = Rollout(engines={origin: Scripted(*answers)}, layout=layout, seed=17)
    return rollout.rewrite([Pack(5)], origin).sums.tolist()  # type: ignore[list-item]


@pytest.mark.parametrize("origin", [Origin.STUDENT, Origin.TEACHER])
def test_completions_are_cut_counted_and_the_teachers_silence_left_out(origin):
    layout = Kept(4, 4, 8, 10)
    sums = rolled(origin, layout, [1, 2, END], [END], [1, 2, END], [END])
    whole, silent, cut, none = layout.answers
    assert whole == ([1, 2, END], True)
    assert silent == (([END], True) if origin is Origin.STUDENT else None)
    assert cut == ([1, 2], False)
    assert none is None
    assert sums == [4, 2 + 0 + 2 + 0, 2, 2]


def test_numbers_depend_on_pack_and_place_alone():
    first, second = Scripted([1], [1]), Scripted([1], [1], [1], [1])
    layout = Kept(2, 2)
    Rollout(engines={Origin.STUDENT: first}, layout=layout, seed=17).rewrite([Pack(6)], Origin.STUDENT)  # type: ignore[list-item]
    Rollout(engines={Origin.STUDENT: second}, layout=layout, seed=17).rewrite([Pack(5), Pack(6)], Origin.STUDENT)  # type: ignore[list-item]
    assert second.numbers[2:] == first.numbers
    assert len(set(second.numbers)) == 4


def test_the_coin_of_a_step():
    config = RlhfConfig(rlhf_type="gkd", beta=0.5, lmbda=0.3, seq_kd=True)
    found = [origin_of(step, config, 17) for step in range(2000)]
    assert found == [origin_of(step, config, 17) for step in range(2000)]
    assert found != [origin_of(step, config, 18) for step in range(2000)]
    assert set(found) == {Origin.STUDENT, Origin.TEACHER}
    assert np.mean([origin is Origin.STUDENT for origin in found]) == pytest.approx(0.3, abs=0.04)
    assert sum(shares(2000, config, 17).values()) == 2000
    assert shares(2000, config, 17)[Origin.STUDENT] == found.count(Origin.STUDENT)


@pytest.mark.parametrize(
    ("lmbda", "seq_kd", "expected"),
    [(0.0, False, Origin.DATA), (0.0, True, Origin.TEACHER), (1.0, True, Origin.STUDENT), (1.0, False, Origin.STUDENT)],
)
def test_certain_coins(lmbda, seq_kd, expected):
    config = RlhfConfig(rlhf_type="gkd", beta=0.5, lmbda=lmbda, seq_kd=seq_kd)
    assert {origin_of(step, config, 17) for step in range(50)} == {expected}
