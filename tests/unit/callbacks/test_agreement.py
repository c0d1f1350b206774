"""Ranks that were given other values do not train: each of them says which."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from dvlm.callbacks.agreement import SameConfig
from dvlm.values import InputError


def rank(number: int, beta: float, store: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    try:
        SameConfig({"rlhf": {"beta": beta}, "seed": 17}).setup(SimpleNamespace(world_size=2), None, "fit")
        said = "agreed"
    except InputError as error:
        said = str(error)
    store.with_name(f"{number}.txt").write_text(said)
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("theirs", "said"),
    [(0.1, "agreed"), (0.95, "ranks 0 and 1 of one run were given other values: rlhf.beta: 0.1, 0.95")],
)
def test_ranks_compare_their_configurations(theirs, said, tmp_path):
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=rank, args=(n, (0.1, theirs)[n], tmp_path / "store")) for n in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [(tmp_path / f"{n}.txt").read_text() for n in range(2)] == [said, said]
