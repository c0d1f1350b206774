"""Several sources in one epoch: by weight, paired anew, each with its own prompts, and told apart in the metrics."""

import json
from collections import Counter

import datakit
import pytest
from support import CACHE

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import SourceConfig
from dvlm.config.compose import compose
from dvlm.data import files, source
from dvlm.data.datamodule import CaptionDataModule
from dvlm.train import train
from dvlm.values import InputError, Mode

OPS = [{"name": "hflip", "params": {"prob": 0.5}}, {"name": "rotate", "params": {"prob": 0.5}}]
COUNTS = {"half": 16, "one": 10, "two": 6}  # records, two a turn
WEIGHTS = {"half": 0.5, "one": 1.0, "two": 2.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of records for each source; the texts of each record name its source and its line."""
    root = tmp_path_factory.mktemp("sources")
    for name, count in COUNTS.items():
        datakit.write(root / f"{name}.jsonl", *(row(name, number) for number in range(1, count + 1)))
    return root


def row(name, number):
    box = {"bbox_2d": [4, 5, 30, 40], "desc": f"{name}/{'字' * number}"}
    return datakit.row(objects=[box], summary=f"{name}×{number}")


def named(folder, **changes):
    """The sources of `folder`; `changes` maps a name to settings of its own."""
    return [
        SourceConfig(name, str(folder / f"{name}.jsonl"), **({"weight": WEIGHTS[name]} | changes.get(name, {})))
        for name in COUNTS
    ]


def build(sources, model, *, seed=17, **changes):
    data = datakit.config(train_jsonl=None, sources=sources, **changes)
    return source.training(data, augmentation=Pipeline.build(OPS), encoder=datakit.encoder(model), seed=seed)


def shown(mixture, epoch):
    """The (first record, second record) lines of an epoch's turns by source, in order."""
    turns = {}
    for index in range(mixture.turns):
        turn = mixture.turn(epoch, index)
        turns.setdefault(turn.source, []).append(tuple(record.line for record in turn.records))
        assert {record.file.stem for record in turn.records} == {turn.source}
    return turns


def lines(turns):
    return Counter(line for turn in turns for line in turn)


def test_an_epoch_takes_from_each_source_as_its_weight_asks(folder, tiny):
    mixture = build(named(folder), tiny)
    assert (mixture.records, mixture.turns) == (32, 4 + 5 + 6)
    for epoch in range(3):
        turns = shown(mixture, epoch)
        assert {name: len(each) for name, each in turns.items()} == {"half": 4, "one": 5, "two": 6}
        assert lines(turns["one"]) == Counter(range(1, 11))
        assert lines(turns["two"]) == Counter(list(range(1, 7)) * 2)
        assert set(lines(turns["half"]).values()) == {1}


def test_a_source_of_half_weight_shows_the_other_half_next(folder, tiny):
    mixture = build(named(folder), tiny)
    halves = [shown(mixture, epoch)["half"] for epoch in range(4)]
    for first in (0, 2):
        assert lines(halves[first] + halves[first + 1]) == Counter(range(1, 17))
    assert {frozenset(turn) for turn in halves[0] + halves[1]} != {frozenset(turn) for turn in halves[2] + halves[3]}


def test_what_a_source_shows_twice_is_paired_anew(folder, tiny):
    mixture = build(named(folder, two={"weight": 30.0}), tiny)
    turns = shown(mixture, 0)["two"]
    passes = [frozenset(map(frozenset, turns[start : start + 3])) for start in range(0, len(turns), 3)]
    assert len(passes) == 30
    assert all(lines(map(tuple, each)) == Counter(range(1, 7)) for each in passes)
    # Six records make fifteen different pairings.
    assert len(set(passes)) > 8


@pytest.mark.parametrize(("weight", "each"), [(0.5, 2), (0.3, 2), (0.01, 1), (1.3, 6), (2.5, 12)])
def test_a_weight_that_does_not_divide_still_shows_all(folder, tiny, weight, each):
    """Five turns: every five epochs show every record equally often."""
    mixture = build(named(folder, one={"weight": weight}), tiny)
    turns = [turn for epoch in range(5) for turn in shown(mixture, epoch)["one"]]
    assert len(turns) == 5 * each
    assert lines(turns) == Counter(list(range(1, 11)) * each)


def test_weight_one_is_the_source_alone(folder, tiny):
    """Turn for turn, whatever stands beside it."""
    alone = build(named(folder)[1:2], tiny)
    beside = build(named(folder), tiny)
    assert [shown(alone, epoch)["one"] for epoch in range(3)] == [shown(beside, epoch)["one"] for epoch in range(3)]


def test_it_is_a_pure_function_of_the_seed(folder, tiny):
    first, again, other = (build(named(folder), tiny, seed=seed) for seed in (17, 17, 18))
    epochs = [[shown(mixture, epoch) for epoch in range(2)] for mixture in (first, again, other)]
    assert epochs[0] == epochs[1]
    assert epochs[0][0] != epochs[0][1]
    assert epochs[0] != epochs[2]
    ours, theirs = first.sample(1, 7), again.sample(1, 7)
    assert ours.input_ids.equal(theirs.input_ids)
    assert ours.pixel_values.equal(theirs.pixel_values)


def test_two_names_of_one_file_are_paired_apart(folder, tiny):
    file = str(folder / "half.jsonl")
    mixture = build([SourceConfig("a", file), SourceConfig("b", file)], tiny)
    turns = [mixture.turn(0, index) for index in range(16)]
    pairs = {name: {frozenset(r.line for r in t.records) for t in turns if t.source == name} for name in "ab"}
    assert len(pairs["a"] & pairs["b"]) < 4


def test_there_is_no_turn_behind_the_last(folder, tiny):
    with pytest.raises(IndexError, match="an epoch has 15 turns"):
        build(named(folder), tiny).turn(0, 15)


def test_lengths_are_those_of_the_samples(folder, tiny):
    """Also where a source starts over within an epoch, and for any choice of turns."""
    mixture = build(named(folder, one={"weight": 1.3}), tiny, summary_ratio=0.4)
    modes = set()
    for epoch in range(3):
        rows = mixture.lengths(epoch, range(mixture.turns))
        for index, row in enumerate(rows.tolist()):
            sample = mixture.sample(epoch, index)
            modes.add((sample.turn.source, sample.turn.mode))
            assert row == [len(sample.input_ids), int((sample.labels != -100).sum())]
        some = [13, 2, 3, 9, 0]
        assert mixture.lengths(epoch, some).tolist() == rows[some].tolist()
    assert len(modes) == 6
    assert mixture.lengths(0, []).shape == (0, 2)


def test_each_source_has_its_own_prompts_and_modes(folder, tiny):
    own = {
        "half": {"user_prompt": "甲?", "system_prompt_dense": "系统甲"},
        "one": {"summary_ratio": 1.0, "system_prompt_summary": "系统乙"},
    }
    mixture = build(named(folder, **own), tiny, system_prompt_dense="系统", user_prompt="问?", summary_ratio=0.0)
    asked = {}
    for index in range(mixture.turns):
        turn = mixture.turn(0, index)
        system, user, answer = mixture.messages(turn, mixture.draw(turn))
        texts = system["content"][0]["text"], user["content"][-1]["text"]
        asked.setdefault(turn.source, set()).add((turn.mode, *texts))
        value = json.loads(answer["content"][0]["text"])["图片_1"]
        if turn.source == "one":
            assert value == f"one×{turn.records[0].line}"
        else:
            assert value[0]["desc"] == f"{turn.source}/{'字' * turn.records[0].line}"
    assert asked == {
        "half": {(Mode.DENSE, "系统甲", "甲?")},
        "one": {(Mode.SUMMARY, "系统乙", "问?")},
        "two": {(Mode.DENSE, "系统", "问?")},
    }


def test_records_and_dialogues_side_by_side(folder, tmp_path, tiny):
    spoken = {"messages": [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "好"}]}
    file = datakit.write(tmp_path / "d.jsonl", *[spoken | {"images": ["a.png"]}] * 3)
    mixture = build([*named(folder)[:1], SourceConfig("talk", str(file))], tiny)
    assert mixture.turns == 4 + 3
    assert not mixture.cacheable
    assert [mixture.turn(0, index).dialogue is None for index in range(7)] == [True] * 4 + [False] * 3
    assert {mixture.sample(0, index).answer for index in range(4, 7)} == {"好"}


def module(folder, tiny, **changes):
    """The data module over the sources, of one record a turn."""
    return CaptionDataModule(
        datakit.config(train_jsonl=None, images_per_user_turn=1, packs_per_step=2, **changes),
        augmentation=Pipeline.build(OPS),
        encoder=datakit.encoder(tiny),
        seed=17,
        epochs=2,
        max_length=700,
        world_size=1,
    )


def test_a_plan_shows_each_turn_once_and_batches_name_their_sources(folder, tiny):
    data = module(folder, tiny, sources=named(folder))
    planned = sorted(name for pack in data.train_plan.packs if not pack.filler for name in pack.samples)
    assert planned == [(epoch, index) for epoch in range(2) for index in range(8 + 10 + 12)]
    seen = Counter()
    for batch in data.train_dataloader():
        if not data.train_plan.packs[batch.pack].filler:
            seen.update(batch.groups)
        for place, group in zip(batch.places, batch.groups, strict=True):
            assert f"/{group[0]}.jsonl:" in place
    assert seen == {("half", "dense"): 16, ("one", "dense"): 20, ("two", "dense"): 24}


@pytest.mark.parametrize(
    ("ratio", "own", "groups"),
    [
        (0.0, {}, ("half", "one", "two")),
        (0.3, {}, ("half", "one", "two", "dense", "summary")),
        (0.0, {"one": {"summary_ratio": 0.3}}, ("half", "one", "two", "dense", "summary")),
        (0.0, {"one": {"summary_ratio": 1.0}}, ("half", "one", "two", "dense", "summary")),
        (1.0, {}, ("half", "one", "two")),
    ],
)
def test_modes_are_logged_apart_where_both_occur(folder, tiny, ratio, own, groups):
    assert module(folder, tiny, sources=named(folder, **own), summary_ratio=ratio).groups == groups


def as_override(sources):
    items = (", ".join(f"{key}: {value!r}" for key, value in each.items()) for each in sources)
    return f"data.sources=[{', '.join(f'{{{item}}}' for item in items)}]"


def composed(*overrides):
    options = [f"cache_dir={CACHE}", "data=mixture", "callbacks.sample_pictures=0", "callbacks.progress=none"]
    return compose("train", [*options, "logger=none", "tuner.lora_rank=4", *overrides])


def test_two_steps_of_training(tmp_path, demo_files):
    """From the command line to the log: each source and each mode has its own loss."""
    train_file, val_file = map(str, demo_files)
    sources = [
        {"name": "a", "train_jsonl": train_file, "weight": 0.5},
        {
            "name": "站 乙",
            "train_jsonl": val_file,
            "weight": 2,
            "summary_ratio": 0.5,
            "user_prompt": "列出, 所有=物体?",
        },
    ]
    options = ["data.max_pixels=4096", f"data.val_jsonl={val_file}", "data.packs_per_step=2", "data.sample_limit=6"]
    config = composed(
        as_override(sources), *options, "global_max_length=1024", "trainer.num_train_epochs=2", "trainer.max_steps=2"
    )
    assert [each.weight for each in config.data.sources] == [0.5, 2.0]
    assert config.data.sources[1].user_prompt == "列出, 所有=物体?"
    train(config, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "logging.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row for row in log if "train/loss" in row]
    assert len(steps) == 2
    for row in steps:
        losses = {name.partition("sft_loss/")[2]: value for name, value in row.items() if "/sft_loss/" in name}
        assert set(losses) <= {"a", "站 乙", "dense", "summary", "coord", "text"}
        for pair in (("a", "站 乙"), ("dense", "summary"), ("coord", "text")):
            own = [losses[name] for name in pair if name in losses]
            assert min(own) * (1 - 1e-6) <= row["train/sft_loss"] <= max(own) * (1 + 1e-6)
    logged = {name for row in steps for name in row}
    assert {"train/sft_loss/a", "train/sft_loss/站 乙", "train/sft_loss/summary"} <= logged
    validated = {name for row in log for name in row if name.startswith("eval/sft_loss/")}
    assert validated == {f"eval/sft_loss/{name}" for name in ("dense", "coord", "text")}
    run = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert set(run["data"]) == {train_file, val_file}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{"wieght": 0.5}], "unknown key 'wieght'; did you mean 'weight'?"),
        ([{"train_json": "a"}], "unknown key 'train_json'; did you mean 'train_jsonl'?"),
        ([{}, {}], "data.sources has the names ['a', 'a'], expected each once"),
        ([{"weight": 0}], "data.sources[a].weight is 0.0, expected a number above 0.0"),
        ([{"weight": -1}], "data.sources[a].weight is -1.0, expected a number above 0.0"),
        ([{"weight": "viel"}], "Value 'viel' of type 'str' could not be converted to Float"),
        ([{"summary_ratio": 1.5}], "data.sources[a].summary_ratio is 1.5, expected a number from 0.0 to 1.0"),
    ],
)
def test_a_mistake_in_a_source_is_named(changes, message):
    with pytest.raises(InputError) as caught:
        composed(as_override([{"name": "a", "train_jsonl": "a.jsonl"} | each for each in changes]))
    assert message in str(caught.value)


def test_what_a_source_needs(tmp_path):
    with pytest.raises(InputError, match=r"data.sources\[0\].train_jsonl has no value"):
        composed("data.sources=[{name: a}]")
    with pytest.raises(InputError, match="data has neither train_jsonl nor sources"):
        composed()


@pytest.mark.parametrize("name", ["dense", "summary", "", " "])
def test_a_name_that_metrics_could_not_tell_apart(folder, tiny, name):
    with pytest.raises(InputError, match=rf"data.sources\[0\].name is '{name}', expected a name that is neither empty"):
        build([SourceConfig(name, str(folder / "one.jsonl"))], tiny)


@pytest.mark.parametrize("changes", [{"train_jsonl": "b.jsonl"}, {"train_jsonl": "demo"}])
def test_training_records_that_are_named_twice(tmp_path, changes):
    data = datakit.config(sources=[SourceConfig("a", "a.jsonl")], **changes)
    with pytest.raises(InputError, match=f"data.train_jsonl is '{changes['train_jsonl']}', but data.sources names"):
        files.prepared(data, tmp_path)


def test_a_bad_record_names_the_file_of_its_source(folder, tmp_path, tiny):
    bad = datakit.write(tmp_path / "坏.jsonl", datakit.row(), datakit.row(summary=None))
    sources = [*named(folder)[:1], SourceConfig("b", str(bad), summary_ratio=0.5)]
    with pytest.raises(InputError, match=f"{bad}:2: summary: null; expected a summary"):
        build(sources, tiny)
    assert build([SourceConfig("b", str(bad))], tiny).turns == 1
