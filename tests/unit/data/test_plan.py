"""The epoch plan: nothing lost, nothing too long, the same every time, and steps whose tokens are known."""

import numpy as np
import pytest

from dvlm.data import plan as planning
from dvlm.data.packing import best_fit, fewest, fill_up
from dvlm.values import InputError

MOST = 4096


def realistic(count, seed=0):
    """(count, 2) tokens and supervised tokens of turns of two photographs, 320x240 to 1024x768.

    An image holds 8 objects on average, sometimes one, sometimes dozens, of 38 tokens each.
    """
    rng = np.random.default_rng(seed)
    images = rng.choice([70, 300, 475, 768], (count, 2), p=[0.15, 0.35, 0.25, 0.25]).sum(1)
    supervised = rng.geometric(1 / 8, (count, 2)).sum(1) * 38 + rng.integers(-10, 10, count)
    return np.stack([np.minimum(70 + images + supervised, MOST), supervised], 1)


def build(lengths, *, epochs=1, **changes):
    rows = [lengths(epoch) if callable(lengths) else np.array(lengths, np.int64) for epoch in range(epochs)]
    options = {
        "seed": 17,
        "max_length": MOST,
        "packing": True,
        "samples_per_pack": 1,
        "packs_per_step": 1,
        "truncation": "raise",
        "place": lambda epoch, index: f"a.jsonl:{index + 1} of epoch {epoch}",
    }
    return planning.build(rows, **(options | changes))


def oracle(tokens, most):
    """Best-fit decreasing as one would write it down: O(n^2)."""
    packs, spaces = [], []
    for index in sorted(range(len(tokens)), key=lambda i: (-tokens[i], i)):
        fitting = [n for n, space in enumerate(spaces) if space >= tokens[index]]
        if fitting:
            best = min(fitting, key=lambda n: spaces[n])
            packs[best].append(index)
            spaces[best] -= tokens[index]
        else:
            packs.append([index])
            spaces.append(most - tokens[index])
    return packs


@pytest.mark.parametrize(("count", "most"), [(1, 10), (40, 10), (300, 64), (600, MOST)])
def test_best_fit_is_as_good_as_the_oracle(count, most):
    tokens = np.random.default_rng([count, most]).integers(1, most + 1, count)
    packs = best_fit(tokens, np.arange(count), most)
    sums = sorted(int(tokens[pack].sum()) for pack in packs)
    # Which of two equally full packs takes a sample is a matter of taste; how full they get is not.
    assert sums == sorted(int(tokens[pack].sum()) for pack in oracle(tokens, most))
    assert sums[-1] <= most
    assert sorted(i for pack in packs for i in pack) == list(range(count))


def test_best_fit_on_a_case_by_hand():
    tokens = np.array([5, 7, 3, 2, 4, 1])
    # 7 and then 3 fill one pack; 5 and 4 leave room for 1; 2 is alone.
    assert best_fit(tokens, np.arange(6), 10) == [[0, 4, 5], [1, 2], [3]]
    assert best_fit(tokens, np.array([0, 3, 5]), 10) == [[0, 3, 5]]


@pytest.mark.parametrize(("count", "most"), [(1, 10), (40, 10), (300, 64), (600, MOST), (400, 20 * MOST)])
@pytest.mark.parametrize("curve", [1, 8, 128])
def test_packs_that_are_filled_up_hold_every_sample_once(count, most, curve):
    tokens = np.random.default_rng([count, most]).integers(1, min(most, MOST) + 1, count)
    packs = fill_up(tokens, most, curve)
    assert sorted(length for pack in packs for length in pack) == sorted(tokens.tolist())
    assert max(map(sum, packs)) <= most
    samples = fewest(tokens, np.arange(count), most)
    assert sorted(i for pack in samples for i in pack) == list(range(count))
    assert max(int(tokens[pack].sum()) for pack in samples) <= most
    assert len(samples) <= min(len(packs), len(oracle(tokens, most)))


def test_filling_up_on_a_case_by_hand():
    tokens = np.array([5, 4, 4, 3, 2, 2])
    # Best-fit decreasing puts 4 beside 5, and needs a third pack.
    assert best_fit(tokens, np.arange(6), 10) == [[0, 1], [2, 3, 4], [5]]
    assert fill_up(tokens, 10, 8) == [[5, 2, 3], [4, 2, 4]]
    assert fewest(tokens, np.arange(6), 10) == [[0, 3, 5], [1, 2, 4]]
    assert fewest(tokens, np.array([1, 4]), 10) == [[1, 4]]


@pytest.mark.parametrize("count", [300, 5000])
def test_two_or_three_long_samples_a_pack_fill_it(count):
    """Where best-fit decreasing leaves 3.4 % of the packs empty."""
    rng = np.random.default_rng(1)
    tokens = np.where(rng.random(count) < 0.3, 60, 35 * rng.lognormal(2.8, 0.6, count)).astype(int)
    tokens = np.minimum(60 + tokens + rng.choice([300, 475, 768], (count, 2), p=[0.4, 0.3, 0.3]).sum(1), MOST)
    packs = fewest(tokens, np.arange(count), MOST)
    assert tokens.sum() / (len(packs) * MOST) >= 0.98
    assert len(packs) < len(best_fit(tokens, np.arange(count), MOST))
    assert packs == fewest(tokens.copy(), np.arange(count), MOST)


def test_packs_of_a_realistic_epoch_are_full():
    rows = realistic(5000)
    plan = build(rows, packs_per_step=8)
    used = [name for pack in plan.packs if not pack.filler for name in pack.samples]
    assert sorted(used) == [(0, index) for index in range(5000)]
    assert max(pack.tokens for pack in plan.packs) <= MOST
    for pack in plan.packs:
        if not pack.filler:
            indices = [index for _, index in pack.samples]
            assert (pack.tokens, pack.supervised) == tuple(rows[indices].sum(0))
    statistics = plan.statistics(MOST)
    assert statistics["efficiency"] >= 0.98
    assert statistics["efficiency"] == pytest.approx(rows[:, 0].sum() / MOST / statistics["packs"])
    assert statistics["tokens"] == rows[:, 0].sum()
    assert statistics["supervised_tokens"] == rows[:, 1].sum()
    assert statistics["samples"] == 5000


@pytest.mark.parametrize("per_step", [1, 2, 3, 8, 50])
def test_steps_are_whole_and_know_their_tokens(per_step):
    rows = realistic(60, seed=1)
    plan = build(rows, epochs=2, packs_per_step=per_step)
    real = [pack for pack in plan.packs if not pack.filler]
    fillers = plan.packs[len(real) :]
    assert len(plan.packs) == plan.steps * per_step
    assert len(fillers) < per_step
    assert all(pack.filler and pack.supervised == pack.tokens == 0 and len(pack.samples) == 1 for pack in fillers)
    for step in range(plan.steps):
        numbers = range(step * per_step, (step + 1) * per_step)
        total = sum(plan.packs[number].supervised for number in numbers)
        assert {plan.supervised_in_step(number) for number in numbers} == {total}
    steps = [plan.supervised_in_step(step * per_step) for step in range(plan.steps)]
    assert sum(steps) == 2 * rows[:, 1].sum()


def test_a_filler_costs_little():
    plan = build([[500, 5], [20, 5], [3000, 5]], packing=False, packs_per_step=4)
    assert plan.packs[3].filler
    assert plan.packs[3].samples == ((0, 1),)


def test_epochs_follow_each_other_and_differ():
    rows = realistic(200, seed=2)
    plan = build(rows, epochs=3)
    epochs = [pack.samples[0][0] for pack in plan.packs]
    assert epochs == sorted(epochs)
    assert set(epochs) == {0, 1, 2}
    order = [[tuple(i for _, i in pack.samples) for pack in plan.packs if pack.samples[0][0] == e] for e in range(3)]
    assert sorted(order[0]) == sorted(order[1])
    assert order[0] != order[1] != order[2]
    assert all({e for e, _ in pack.samples} == {pack.samples[0][0]} for pack in plan.packs)


def test_each_epoch_has_its_own_lengths():
    plan = build(lambda epoch: np.array([[100 + epoch, 10 + epoch]] * 4), epochs=3, packing=False)
    assert [pack.tokens for pack in plan.packs] == [100] * 4 + [101] * 4 + [102] * 4


def test_the_plan_is_a_pure_function():
    rows = realistic(300, seed=3)
    assert build(rows, epochs=2) == build(rows.copy(), epochs=2)
    assert build(rows, epochs=2) != build(rows, epochs=2, seed=18)


def test_without_shuffling_packs_keep_an_order():
    rows = [[10 + n, 1] for n in range(9)]
    plan = build(rows, packing=False, shuffle=False)
    assert [pack.samples for pack in plan.packs] == [((0, n),) for n in range(9)]


def test_padded_rows_share_a_batch():
    plan = build([[10, 1]] * 10, packing=False, samples_per_pack=4)
    assert sorted(len(pack.samples) for pack in plan.packs) == [2, 4, 4]
    assert sorted(index for pack in plan.packs for _, index in pack.samples) == list(range(10))


def test_padded_rows_fill_no_more_than_all_of_it():
    statistics = build([[3000, 1]] * 8, packing=False, samples_per_pack=4).statistics(MOST)
    assert statistics["efficiency"] == pytest.approx(3000 / MOST)


def test_a_turn_that_is_too_long_is_named_with_the_way_out():
    with pytest.raises(InputError) as caught:
        build([[100, 5], [4097, 5], [5000, 5]])
    message = str(caught.value)
    assert message.startswith("a.jsonl:2 of epoch 0: a turn of 4097 tokens is longer than global_max_length 4096")
    assert "data.truncation=drop" in message
    assert len(build([[4096, 5]]).packs) == 1


def test_the_epoch_of_a_turn_that_is_too_long():
    with pytest.raises(InputError, match="a.jsonl:1 of epoch 2"):
        build(lambda epoch: np.array([[MOST - 1 + epoch, 5]]), epochs=3)


@pytest.mark.parametrize("packing", [True, False])
def test_dropped_turns_are_counted_and_named(packing):
    plan = build([[100, 5], [4097, 7], [5000, 9]], epochs=2, packing=packing, truncation="drop")
    assert plan.dropped == ((0, 1), (0, 2), (1, 1), (1, 2))
    assert plan.statistics(MOST)["dropped"] == 4
    assert [pack.samples for pack in plan.packs] == [((0, 0),), ((1, 0),)]
    assert plan.statistics(MOST)["supervised_tokens"] == 10


def test_nothing_left_is_an_error():
    with pytest.raises(InputError, match="every one of 2 samples is longer than global_max_length 4096"):
        build([[5000, 5], [5001, 5]], truncation="drop")
