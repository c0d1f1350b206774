"""The loader: the same batches for any number of workers and ranks, from wherever a run resumes."""

import hashlib
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import datakit
import pytest
import torch

from dvlm.augmentation.pipeline import Pipeline
from dvlm.checks import check_batch, check_sample
from dvlm.data.datamodule import CaptionDataModule
from dvlm.values import InputError

HERE = Path(__file__).resolve()
OPS = [
    {"name": "hflip", "params": {"prob": 0.5}},
    {"name": "rotate", "params": {"max_deg": 15.0, "prob": 0.5}},
    {"name": "color_jitter", "params": {"prob": 0.5}},
]


def build(files, model, *, epochs=2, seed=17, world_size=1, max_length=700, ops=OPS, **changes):
    train, val = files
    options = {"train_jsonl": str(train), "val_jsonl": val and str(val), "summary_ratio": 0.3, "packs_per_step": 4}
    return CaptionDataModule(
        datakit.config(**(options | changes)),
        augmentation=Pipeline.build(ops),
        encoder=datakit.encoder(model, max_pixels=96 * 96),
        seed=seed,
        epochs=epochs,
        max_length=max_length,
        world_size=world_size,
    )


def on_rank(data, rank, reached=0):
    """The module as a trainer of that rank has it, which has reached a micro-batch."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=reached))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer = SimpleNamespace(global_rank=rank, fit_loop=loop)
    return data


def digest(batch):
    """Every field of a batch to the byte."""
    content = hashlib.sha256()
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor):
            content.update(f"{field.name} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
        else:
            content.update(f"{field.name} {value!r}".encode())
    return content.hexdigest()


def digests(loader):
    return [digest(batch) for batch in loader]


@pytest.fixture(scope="module")
def served(demo_files, tiny):
    """The digests of all training and validation packs, without workers."""
    data = build(demo_files, tiny)
    return digests(data.train_dataloader()), digests(data.val_dataloader())


def test_workers_change_nothing(demo_files, tiny, served):
    data = build(demo_files, tiny, dataloader_num_workers=2)
    assert (digests(data.train_dataloader()), digests(data.val_dataloader())) == served
    assert len(set(served[0])) == len(served[0])


def test_another_process_changes_nothing(demo_files, tiny, served):
    """With another seed of Python's hashes, and asked from the last pack to the first."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "import test_datamodule as t; from pathlib import Path; from dvlm.data.datamodule import PackDataset\n"
        "data = t.build((Path(sys.argv[3]), None), Path(sys.argv[4]))\n"
        "packs = PackDataset(data.train_line, data.train_plan, packing=True)\n"
        "print(*reversed([t.digest(packs[i]) for i in reversed(range(len(packs)))]))"
    )
    command = [sys.executable, "-c", code, str(HERE.parent), str(HERE.parents[3]), str(demo_files[0]), str(tiny)]
    environment = os.environ | {"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"}
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=120)
    assert out.stdout.split() == served[0]


def test_the_seed_changes_everything(demo_files, tiny, served):
    other = digests(build(demo_files, tiny, seed=18, epochs=1).train_dataloader())
    assert not set(other) & set(served[0])


def test_epochs_show_the_same_records_otherwise(demo_files, tiny):
    data = build(demo_files, tiny)
    shown = {0: [], 1: []}
    for pack in data.train_plan.packs:
        for epoch, index in [] if pack.filler else pack.samples:
            shown[epoch].append(tuple(record.line for record in data.train_line.turn(epoch, index).records))
    assert sorted(line for turn in shown[0] for line in turn) == list(range(1, 25))
    assert sorted(line for turn in shown[1] for line in turn) == list(range(1, 25))
    assert len(set(shown[0]) & set(shown[1])) < 4


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_the_packs_of_each_step(demo_files, tiny, served, world_size):
    data = build(demo_files, tiny, world_size=world_size)
    loaders = [on_rank(data, rank).train_dataloader() for rank in range(world_size)]
    ranks = [list(loader) for loader in loaders]
    assert data.accumulation == 4 // world_size
    assert [len(loader) for loader in loaders] == [len(data.train_plan.packs) // world_size] * world_size
    whole = [batch for micro in zip(*ranks, strict=True) for batch in micro]
    assert [batch.pack for batch in whole] == list(range(len(data.train_plan.packs)))
    assert [digest(batch) for batch in whole] == served[0]
    for step in range(data.train_plan.steps):
        micro = range(step * data.accumulation, (step + 1) * data.accumulation)
        packs = [rank[number] for number in micro for rank in ranks]
        total = sum(int((batch.labels != -100).sum()) for batch in packs)
        assert {batch.supervised_in_step for batch in packs} == {total}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_starts_where_it_stopped_and_keeps_its_length(demo_files, tiny, served, workers):
    data = build(demo_files, tiny, dataloader_num_workers=workers)
    loader = on_rank(data, 0, reached=5).train_dataloader()
    assert digests(loader) == served[0][5:]
    assert len(loader) == len(served[0])
    assert digests(data.val_dataloader()) == served[1]


def test_each_rank_resumes_at_its_own_pack(demo_files, tiny):
    data = build(demo_files, tiny, world_size=2)
    packs = [[batch.pack for batch in on_rank(data, rank, reached=3).train_dataloader()] for rank in (0, 1)]
    count = len(data.train_plan.packs)
    assert packs == [list(range(6, count, 2)), list(range(7, count, 2))]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"packing": False, "samples_per_pack": 3},
        {"packing": False},
        {"images_per_user_turn": 5, "emit_norm": "none"},
    ],
    ids=["packed", "padded", "single", "many images"],
)
def test_every_batch_holds_what_the_plan_counted(demo_files, tiny, changes):
    data = build(demo_files, tiny, epochs=1, max_length=1500, **changes)
    for batch in data.train_dataloader():
        pack = data.train_plan.packs[batch.pack]
        check_batch(batch, pack.supervised)
        tokens = batch.input_ids.numel() if data.config.packing else int(batch.attention_mask.sum())
        assert tokens == pack.tokens or pack.filler
        assert len(batch.places) == len(pack.samples)
    for epoch, index in data.train_plan.packs[0].samples:
        encoder = data.encoder
        check_sample(data.train_line.sample(epoch, index), encoder.processor.tokenizer, encoder.model_config)


def test_validation_is_clean_and_of_epoch_zero(demo_files, tiny):
    data = build(demo_files, tiny, ops=[*OPS, {"name": "pad_to_multiple", "params": {"multiple": 64}}])
    samples = data.validation_samples(10)
    assert [(s.turn.epoch, s.turn.index) for s in samples] == [(0, index) for index in range(3)]
    for sample in samples:
        for record, drawn in zip(sample.turn.records, sample.drawn, strict=True):
            assert drawn.annotation.width == -(-record.width // 64) * 64
            assert drawn.annotation.shapes.points.tolist() == record.objects.shapes.points.tolist()
    trained = [data.train_line.sample(0, index) for index in range(12)]
    moved = [d for s in trained for d in s.drawn if len(d.steps) > 1 or any(hasattr(x, "op") for x in d.steps)]
    assert moved


def test_no_validation(demo_files, tiny):
    data = build((demo_files[0], None), tiny)
    assert data.val_dataloader() == []
    assert data.validation_samples(3) == []


def test_a_limit_limits_both_files(demo_files, tiny):
    data = build(demo_files, tiny, epochs=1, sample_limit=5)
    assert (len(data.train_line.parts), len(data.val_line.parts)) == (5, 5)


def test_a_too_long_turn_stops_the_run_or_is_dropped(demo_files, tiny):
    with pytest.raises(
        InputError, match=r"train.jsonl:\d+, .*train.jsonl:\d+: a turn of \d+ tokens is longer than .* 300"
    ):
        build(demo_files, tiny, max_length=300, summary_ratio=0.0)
    data = build(demo_files, tiny, max_length=300, summary_ratio=0.5, truncation="drop", epochs=3)
    served = [len(batch.input_ids[0]) for batch in data.train_dataloader()]
    assert max(served) <= 300
    assert len(data.train_plan.dropped) + data.train_plan.statistics(300)["samples"] == 36


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_meets_names_file_and_line(tmp_path, tiny, workers):
    datakit.picture(tmp_path / "t.jpg", 64, 48)
    file = datakit.write(tmp_path / "a.jsonl", datakit.row(image="t.jpg"))
    data = build((file, None), tiny, epochs=1, verify_images="header", dataloader_num_workers=workers, packs_per_step=1)
    (tmp_path / "t.jpg").write_bytes((tmp_path / "t.jpg").read_bytes()[:-1000])
    with pytest.raises(InputError, match=f"{file}:1: images: {tmp_path}/t.jpg cannot be read"):
        list(data.train_dataloader())


@pytest.mark.parametrize("packing", [True, False])
def test_messages_from_file_to_batch(tmp_path, tiny, packing):
    rows = [
        {"messages": [user("<image>左边<image>右边是什么?"), bot("标签")], "images": ["图 1.png", "图 2.png"]},
        {"messages": [user("你好"), bot("通过"), user("为什么?"), bot("符合要求")]},
        {
            "messages": [
                {"role": "system", "content": "短"},
                user([{"type": "image", "image": "图 2.png"}]),
                bot("线缆"),
            ]
        },
    ]
    datakit.picture(tmp_path / "图 1.png", 96, 64)
    datakit.picture(tmp_path / "图 2.png", 33, 70)
    file = datakit.write(tmp_path / "a.jsonl", *rows)
    options = {} if packing else {"packing": False, "samples_per_pack": 3}
    data = build((file, None), tiny, epochs=2, packs_per_step=1, **options)
    batches = list(data.train_dataloader())
    tokenizer = data.encoder.processor.tokenizer
    # 96x64 and 33x70 pixels are 6 and 2 tokens; each epoch shows 6 + 2 + 2.
    assert [len(batch.image_grid_thw) for batch in batches] == [3, 3]
    assert [int((batch.input_ids == data.encoder.model_config.image_token_id).sum()) for batch in batches] == [10, 10]
    answers = {1: "标签", 2: "通过符合要求", 3: "线缆"}
    for batch in batches:
        lines = [int(place.rpartition(":")[2]) for place in batch.places]
        assert sorted(lines) == [1, 2, 3]
        said = tokenizer.decode(batch.labels[batch.labels != -100]).replace("<|im_end|>", "")
        assert said == "".join(answers[line] for line in lines)
    for index in range(3):
        check_sample(data.train_line.sample(0, index), tokenizer, data.encoder.model_config)


def user(content):
    return {"role": "user", "content": content}


def bot(text):
    return {"role": "assistant", "content": text}


def test_a_pack_without_any_image(tmp_path, tiny):
    file = datakit.write(tmp_path / "a.jsonl", {"messages": [user("你好"), bot("通过")]})
    (batch,) = build((file, None), tiny, epochs=1, packs_per_step=1).train_dataloader()
    assert batch.pixel_values is None
    assert batch.position_ids[:, 0].equal(torch.arange(batch.input_ids.shape[1]).expand(4, -1))
