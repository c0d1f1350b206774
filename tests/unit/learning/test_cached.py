"""The teacher cache changes nothing but the time, whoever else reads, writes, evicts or damages it."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import small_config

from dvlm import assembly, durable
from dvlm.data.collate import collate
from dvlm.data.datamodule import CaptionDataModule
from dvlm.data.digest import of_sample
from dvlm.learning.cached import CachedTeacher
from dvlm.learning.state_store import StateStore
from dvlm.values import Batch, Sample

KNOBS = ("rlhf=gkd_forward", "data.sample_limit=3", "data.images_per_user_turn=1", "data.max_pixels=9216")


@pytest.fixture(scope="module")
def data() -> CaptionDataModule:
    return assembly.build_data(assembly.prepare(small_config(*KNOBS)))


@pytest.fixture(scope="module")
def samples(data) -> list[Sample]:
    return [data.train_line.sample(0, index) for index in range(3)]


def batch(samples: list[Sample], *, packing: bool = True) -> Batch:
    return collate(samples, packing=packing, pad_id=0, supervised_in_step=1, pack=0)


def build(data: CaptionDataModule, root: Path, *knobs: str):
    """A module whose weights have moved, with a cached teacher in `root`."""
    config = assembly.prepare(small_config(*KNOBS, "rlhf.teacher_cache=read_write", *knobs))
    tuned = assembly.build_model(replace(config))
    module = assembly.build_module(config, tuned, data)
    assert isinstance(module.train_teacher, CachedTeacher)
    module.train_teacher.store.root = root
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in tuned.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.05)
    return module


def measured(module, batch: Batch, teacher):
    """Losses and gradients."""
    module.zero_grad()
    head = module.score(batch, teacher)
    head.loss.backward()
    grads = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return torch.stack([head.loss.detach(), head.sft_sum, head.kl_sum]), grads


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize(
    "knobs",
    [(), ("tuner.use_dora=true", "tuner.last_layers={llm: 2}"), ("tuner.modules_to_save=[aligner]",)],
    ids=["lora", "dora", "modules_to_save"],
)
def test_cache_changes_nothing(data, samples, tmp_path, knobs, packing):
    module = build(data, tmp_path, *knobs, f"data.packing={packing}")
    cached, both = module.train_teacher, batch(samples[:2], packing=packing)
    off = measured(module, both, cached.teacher)
    cold, warm = measured(module, both, cached), measured(module, both, cached)
    assert cached.counts().tolist() == [2, 2]
    for found in (cold, warm):
        torch.testing.assert_close(found[0], off[0], rtol=1e-6, atol=0)
        for name, gradient in off[1].items():
            torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-6)


def states(module, batch: Batch, teacher) -> torch.Tensor:
    from dvlm.models import forward, prefix

    begun = prefix.begin(module.model, batch, module.reach)
    return teacher.states(batch, forward.supervised(batch)[0], begun)


def test_other_packs_find_what_was_computed(data, samples, tmp_path):
    """In whichever company; and a sample that is new runs the pack once."""
    module = build(data, tmp_path)
    cached = module.train_teacher
    states(module, batch(samples[:2]), cached)
    inner, cached.teacher = cached.teacher, None
    found = states(module, batch(samples[1::-1]), cached)
    torch.testing.assert_close(found, states(module, batch(samples[1::-1]), inner), rtol=1e-5, atol=1e-5)
    cached.teacher = inner
    states(module, batch(samples), cached)
    assert cached.counts().tolist() == [4, 3]


def test_bfloat16_is_kept_bit_for_bit(data, samples, tmp_path):
    module = build(data, tmp_path, "model.torch_dtype=bfloat16")
    cached, one = module.train_teacher, batch(samples[:1])
    with torch.autocast("cpu", torch.bfloat16):
        fresh = states(module, one, cached.teacher)
        states(module, one, cached)
        warm = states(module, one, cached)
    assert cached.counts().tolist() == [1, 1]
    assert fresh.dtype == warm.dtype == torch.bfloat16
    assert torch.equal(fresh, warm)


def test_ranks_run_the_teacher_together_or_not_at_all(data, samples, tmp_path):
    module = build(data, tmp_path)
    cached, one = module.train_teacher, batch(samples[:1])
    states(module, one, cached)
    cached.agree, cached.teacher = (lambda complete: False), None
    with pytest.raises(AttributeError, match="states"):
        states(module, one, cached)


def test_a_pack_without_supervised_tokens_has_nothing_to_keep(data, samples, tmp_path):
    module = build(data, tmp_path)
    filler = collate(samples[:1], packing=True, pad_id=0, supervised_in_step=1, pack=0, filler=True)
    assert len(states(module, filler, module.train_teacher)) == 0
    assert module.train_teacher.counts().tolist() == [0, 0]
    assert module.train_teacher.store.size() == 0


def test_identities_tell_teachers_apart(data, tmp_path):
    names = [
        build(data, tmp_path, *knobs).train_teacher.identity
        for knobs in [(), ("tuner.use_dora=true",), ("model.torch_dtype=bfloat16",), ("model.attn_impl=eager",)]
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_the_digest_covers_all_that_matters(samples):
    one = samples[0]
    other = one.pixel_values.clone()
    other[-1, -1] += 1
    changed = [
        replace(one, pixel_values=other),
        replace(one, input_ids=one.input_ids.roll(1)),
        replace(one, labels=one.labels.masked_fill(torch.arange(len(one.labels)) == len(one.labels) - 1, -100)),
        replace(one, image_grid_thw=one.image_grid_thw.roll(1)),
        samples[1],
    ]
    assert len({of_sample(each) for each in [one, *changed]}) == 6
    assert of_sample(replace(one, answer="")) == of_sample(one)


def block(number: int, rows: int = 8) -> torch.Tensor:
    return torch.full((rows, 32), float(number))


def name(number: int) -> str:
    return f"teacher/{number:040d}"


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_damage_is_found_reported_and_mended(tmp_path, damage):
    store = StateStore(tmp_path, 10**9)
    store.write(name(1), block(1))
    path = next(tmp_path.rglob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes({"flip": content, "cut": content[:-50], "empty": b"", "text": b"{}" * 99}[damage])
    with pytest.warns(UserWarning, match="damaged and computed anew"):
        assert store.read(name(1), 8) is None
    assert store.read(name(1), 8) is None
    store.write(name(1), block(1))
    assert torch.equal(store.read(name(1), 8), block(1))


def test_another_number_of_rows_is_damage(tmp_path):
    store = StateStore(tmp_path, 10**9)
    store.write(name(1), block(1))
    with pytest.warns(UserWarning, match="damaged"):
        assert store.read(name(1), 9) is None


def test_what_was_not_read_for_longest_goes_first(tmp_path):
    size = StateStore(tmp_path / "probe", 10**9)
    size.write(name(0), block(0))
    entry = size.size()
    store = StateStore(tmp_path / "store", entry * 10)
    for number in range(9):
        store.write(name(number), block(number))
        os.utime(store._path(name(number)), (number, number))
    kept = store.read(name(0), 8)  # used again: now the latest
    for number in range(20, 24):
        store.write(name(number), block(number))
    assert store.size() <= entry * 10
    assert torch.equal(store.read(name(0), 8), kept)
    assert store.read(name(1), 8) is None
    assert all(torch.equal(store.read(name(number), 8), block(number)) for number in range(20, 24))


def test_abandoned_temporary_files_go(tmp_path):
    store = StateStore(tmp_path, 10**9)
    store.write(name(1), block(1))
    old, new = (durable.beside(store._path(name(1))) for _ in range(2))
    old = old.with_name(old.name.replace(f"-{durable.born(os.getpid())}-", "-1-"))  # an earlier process of this number
    for file in (old, new):
        file.write_bytes(b"half")
    store.size()
    assert not old.exists()
    assert new.exists()


def test_a_disk_that_takes_nothing_costs_a_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = StateStore(tmp_path / "file", 10**9)
    with pytest.warns(UserWarning, match="cannot be written"):
        store.write(name(1), block(1))
    assert store.read(name(1), 8) is None


def _work(root: Path, seed: int, limit: int) -> None:
    """Read and write a hundred entries in a store that holds a quarter of them."""
    store = StateStore(root, limit)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(seed)).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in order:
            found = store.read(name(number), 8)
            if found is None:
                store.write(name(number), block(number))
            elif not torch.equal(found, block(number)):
                os._exit(3)


def test_processes_share_a_store(tmp_path):
    context = multiprocessing.get_context("fork")
    limit = 25 * 1300
    workers = [context.Process(target=_work, args=(tmp_path, seed, limit)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert 0 < StateStore(tmp_path, limit).size() <= limit * 1.2
    assert not [file for file in tmp_path.rglob(".*") if file.is_file()]
