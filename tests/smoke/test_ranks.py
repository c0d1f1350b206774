"""One rank or two, few workers or many, resumed or not: the same packs, the same gradients, the same log.

Two processes train over gloo, as Lightning runs them; what they do is compared with the same runs in this process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_runs import GKD, Run, run

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import SourceConfig
from dvlm.data.datamodule import CaptionDataModule
from dvlm.learning.module import SFTModule
from dvlm.values import Batch

HERE = Path(__file__).resolve()
sys.path.append(str(HERE.parents[1] / "unit" / "data"))

import datakit  # noqa: E402
from test_datamodule import digest  # noqa: E402

# Two steps of four packs: the second has one pack and three fillers, so that one rank learns nothing from it. The
# adapters do not start at zero, so that each has a gradient and the divergence counts.
STEPS = (
    "data.demo.train=24",
    "data.packs_per_step=4",
    "data.sample_limit=7",
    "global_max_length=320",
    "data.summary_ratio=0.3",
    "tuner.init_lora_weights=false",
    "tuner.freeze_aligner=false",
    "trainer.accelerator=cpu",
    "trainer.rank_timeout_s=null",
    "trainer.eval_at_start=false",
)
WRITTEN = ("rlhf=gkd", "rlhf.beta=1.0", "rlhf.max_completion_length=6")  # the student writes both steps
RUNS = {"sft": STEPS, "gkd": (GKD, "rlhf.beta=1.0", *STEPS), "on_policy": (*WRITTEN, *STEPS)}


@dataclass(frozen=True)
class Seen:
    """What one rank did: the digests of its micro-batches, and the gradients of each step before clipping."""

    packs: list[str]
    gradients: list[dict[str, torch.Tensor]]
    made: Run


def watched(directory: Path, *overrides: str) -> Seen:
    """A run that is looked at."""
    packs: list[str] = []
    gradients: list[dict[str, torch.Tensor]] = []
    step, clip = SFTModule.training_step, SFTModule.configure_gradient_clipping

    def see_batch(module: SFTModule, batch: Batch, batch_idx: int) -> Any:
        packs.append(digest(batch))
        return step(module, batch, batch_idx)

    def see_gradients(module: SFTModule, *args: Any, **options: Any) -> None:
        gradients.append({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})
        clip(module, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SFTModule, "training_step", see_batch)
        patch.setattr(SFTModule, "configure_gradient_clipping", see_gradients)
        return Seen(packs, gradients, run(directory, *overrides))


def rank(directory: Path) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    for name, overrides in RUNS.items():
        seen = watched(directory / name, *overrides, "trainer.devices=2")
        torch.save((seen.packs, seen.gradients), directory / f"{name}-{os.environ['RANK']}.pt")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> dict[str, list[Seen]]:
    """Both ranks of each run."""
    directory = tmp_path_factory.mktemp("two")
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "GROUP_RANK": "0"}
    shared |= {"LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "ranks", "OMP_NUM_THREADS": "1"}
    code = "import sys; sys.path[:0] = sys.argv[2:]; import test_ranks; test_ranks.rank(test_ranks.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(directory), *map(str, (HERE.parent, HERE.parents[1], HERE.parents[2]))]
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": str(number), "LOCAL_RANK": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    try:
        said = [process.communicate(timeout=400)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return {
        name: [Seen(*torch.load(directory / f"{name}-{number}.pt"), Run(directory / name, 0.0)) for number in range(2)]
        for name in RUNS
    }


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> dict[str, Seen]:
    """The same runs on one rank, in this process."""
    return {name: watched(tmp_path_factory.mktemp("one") / name, *overrides) for name, overrides in RUNS.items()}


@pytest.mark.parametrize("name", ["sft", "gkd"])
def test_two_ranks_see_the_packs_of_one(one, two, name):
    assert [len(seen.packs) for seen in two[name]] == [4, 4]
    assert list(chain(*zip(*(seen.packs for seen in two[name]), strict=True))) == one[name].packs


@pytest.mark.parametrize("name", RUNS)
def test_the_gradient_of_a_step_is_the_same(one, two, name):
    """To rounding in the first step; the second starts from weights that differ by it."""
    assert all(gradient.any() for gradient in one[name].gradients[0].values())
    for step, most in ((0, 1e-5), (1, 1e-3)):
        wanted = one[name].gradients[step]
        for seen in two[name]:
            assert seen.gradients[step].keys() == wanted.keys()
            for key, gradient in seen.gradients[step].items():
                difference = torch.linalg.vector_norm(gradient - wanted[key])
                assert difference < most * torch.linalg.vector_norm(wanted[key]), (step, key)


@pytest.mark.parametrize("name", RUNS)
def test_the_log_is_the_same(one, two, name):
    """Sums over ranks, not means of means; and a gradient norm that is that of the whole step."""
    for prefix in ("train/", "eval/"):
        wanted, found = one[name].made.metrics(prefix), two[name][0].made.metrics(prefix)
        assert found.keys() == wanted.keys()
        for step, values in wanted.items():
            assert found[step] == pytest.approx(values, rel=1e-4), step
    first = one[name].made.metrics("train/")[1]
    term = "kl_loss" if name == "on_policy" else "sft_loss"
    assert {f"train/{term}/dense", f"train/{term}/summary", "train/grad_norm"} <= set(first)
    assert ("train/kl_loss/dense" in first) == (name != "sft")
    assert first.get("train/on_policy") == (1.0 if name == "on_policy" else None)


# --- the loader alone


def build(demo_files, tiny, **changes: Any) -> CaptionDataModule:
    """Two sources, every record of them augmented, dense and summary turns."""
    train_file, val_file = map(str, demo_files)
    sources = [SourceConfig("a", train_file, weight=0.5), SourceConfig("b", val_file, weight=2.0, summary_ratio=0.5)]
    world_size = changes.pop("world_size", 1)
    return CaptionDataModule(
        datakit.config(**({"train_jsonl": None, "sources": sources, "packs_per_step": 4} | changes)),
        augmentation=Pipeline.build(
            [
                {"name": "rotate", "params": {"max_deg": 15.0, "prob": 0.5}},
                {"name": "random_crop", "params": {"min_objects": 1, "skip_if_line": False}},
                {"name": "color_jitter", "params": {"prob": 0.5}},
                {"name": "pad_to_multiple"},
            ]
        ),
        encoder=datakit.encoder(tiny, max_pixels=96 * 96),
        seed=17,
        epochs=2,
        max_length=700,
        world_size=world_size,
    )


def served(data: CaptionDataModule, *, rank: int = 0, reached: int = 0) -> list[Batch]:
    """The micro-batches of a rank from the one that its trainer has reached."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=reached))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer: Any = SimpleNamespace(global_rank=rank, fit_loop=loop)
    return list(data.train_dataloader())


@pytest.fixture(scope="module")
def packs(demo_files, tiny) -> list[str]:
    """The digests of all packs, in this process."""
    return [digest(batch) for batch in served(build(demo_files, tiny))]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize(("workers", "world_size"), [(1, 1), (4, 1), (0, 2), (1, 2)])
def test_workers_and_ranks_change_no_byte(demo_files, tiny, packs, workers, world_size):
    data = build(demo_files, tiny, dataloader_num_workers=workers, world_size=world_size)
    ranks = [[digest(batch) for batch in served(data, rank=rank)] for rank in range(world_size)]
    assert list(chain(*zip(*ranks, strict=True))) == packs
    assert len(packs) >= 8
    assert len(set(packs)) >= len(packs) - 3  # fillers are alike


@pytest.mark.parametrize(("world_size", "reached", "workers"), [(1, 1, 0), (1, 10, 2), (2, 1, 0)])
def test_a_resume_in_mid_epoch_goes_on_where_it_stopped(demo_files, tiny, packs, world_size, reached, workers):
    data = build(demo_files, tiny, world_size=world_size, dataloader_num_workers=workers)
    before, after = data.train_plan.packs[reached * world_size - 1 : reached * world_size + 1]
    assert before.samples[0][0] == after.samples[0][0]
    ranks = [[digest(b) for b in served(data, rank=rank, reached=reached)] for rank in range(world_size)]
    assert list(chain(*zip(*ranks, strict=True))) == packs[reached * world_size :]


def contents(batch: Batch) -> list[tuple[str, bytes]]:
    """What a batch shows, whatever its place in the plan: each sample's lines and tokens, and the pixels."""
    assert batch.cu_seq_lens is not None
    rows = batch.input_ids[0].tensor_split(batch.cu_seq_lens[1:-1].long())
    pixels = b"" if batch.pixel_values is None else batch.pixel_values.numpy().tobytes()
    return [*((place, row.numpy().tobytes()) for place, row in zip(batch.places, rows, strict=True)), ("", pixels)]


def test_other_steps_show_the_same_packs(demo_files, tiny):
    """Half the packs a step: two steps of it are one of before. Only the fillers of the last step differ."""
    shown = {}
    for count in (1, 2, 4):
        data = build(demo_files, tiny, packs_per_step=count)
        real = [batch for batch in served(data) if not data.train_plan.packs[batch.pack].filler]
        shown[count] = [contents(batch) for batch in real]
    for start in range(0, len(shown[1]), 4):
        wanted = sorted(shown[1][start : start + 4])
        assert sorted(shown[2][start : start + 4]) == sorted(shown[4][start : start + 4]) == wanted


def test_epochs_and_pairs_differ(demo_files, tiny):
    data = build(demo_files, tiny)
    epochs: dict[int, dict[str, list[bytes]]] = {0: {}, 1: {}}
    for pack in data.train_plan.packs:
        for epoch, index in [] if pack.filler else pack.samples:
            sample = data.train_line.sample(epoch, index)
            epochs[epoch].setdefault(sample.turn.place, []).append(sample.pixel_values.numpy().tobytes())
    # Of the 18 turns of an epoch few show the records of one before, and none of these the same pixels.
    common = set(epochs[0]) & set(epochs[1])
    assert len(common) <= 3
    assert not any(set(epochs[0][place]) & set(epochs[1][place]) for place in common)
