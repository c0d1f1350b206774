"""Two gloo ranks under every strategy end as one process does: losses, norms of gradients, saved weights.

One pair of processes runs all strategies one after another, since it takes longer to import than to train.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pair import both
from support import CACHE
from tiny_runs import GKD, Run

from dvlm.config.compose import compose
from dvlm.data.demo import prepare
from dvlm.scale import strategies
from dvlm.train import train

STRATEGIES = ("ddp", "fsdp", "zero2", "zero3")
# Three steps of four packs; some packs have no picture, and two of the last step no label.
STEPS = (
    GKD,
    f"cache_dir={CACHE}",
    "data=jsonl",
    "data.max_pixels=16384",
    "data.images_per_user_turn=1",
    "data.packs_per_step=4",
    "logger=none",
    "callbacks.progress=none",
    "trainer.num_train_epochs=1",
    "rlhf.beta=1.0",
    "global_max_length=160",
    "tuner.freeze_aligner=false",
    "optim.max_grad_norm=0.5",
    "trainer.accelerator=cpu",
    "trainer.rank_timeout_s=null",
    "trainer.save_steps=1",
    "callbacks.sample_pictures=1",
    "callbacks.sample_max_new_tokens=2",
)
# Adapters that do not start at zero, so that each has a gradient.
LORA = ("tuner.lora_rank=8", "tuner.lora_alpha=16", "tuner.init_lora_weights=false")
FULL = (
    "tuner=full",
    "tuner.freeze_vit=false",
    "trainer.gradient_checkpointing=true",
    "optim.learning_rate=1e-3",
)


def run(directory: Path, *overrides: str) -> Run:
    """Train in `directory`."""
    directory.mkdir(exist_ok=True)
    return Run(directory, train(compose("train", [*STEPS, *overrides]), directory))


def records(directory: Path) -> list[str]:
    """Overrides that name twelve dialogues, about a picture of the demo set and of text alone by turns."""
    source = prepare(CACHE, train=6, val=2)[0]
    lines = source.read_text(encoding="utf-8").splitlines()
    mixed = []
    for number, line in enumerate(lines):
        record = json.loads(line)
        image = str(source.parent / record["images"][0])
        words = "one two three " * (3 + number % 3)
        answer = {"role": "assistant", "content": words}
        asked = [{"type": "image", "image": image}, {"type": "text", "text": "what?"}]
        for content, images in ((asked, [image]), (words, [])):
            mixed.append(json.dumps({"messages": [{"role": "user", "content": content}, answer], "images": images}))
    files = {"train_jsonl": mixed, "val_jsonl": mixed[:4]}
    for name, chosen in files.items():
        (directory / name).write_text("\n".join(chosen), encoding="utf-8")
    return [f"data.{name}={directory / name}" for name in files]


def rank(directory: Path, *overrides: str) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    strategies.PERSISTENCE = 0  # or the tiny model's parameters would all stay whole
    for name in STRATEGIES:
        options = (*overrides, "trainer.devices=2", f"trainer.strategy={name}")
        run(directory / name, *options)
        run(directory / f"{name}-resumed", *options, f"resume_from={directory / name / 'checkpoints' / 'step-000001'}")
    of_one = f"resume_from={directory / 'one' / 'checkpoints' / 'step-000001'}"
    run(directory / "one-resumed", *overrides, "trainer.devices=2", "trainer.strategy=ddp", of_one)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def data(place) -> list[str]:
    return records(place)


@pytest.fixture(scope="module")
def one(place, data) -> Run:
    """The same run in one process."""
    return run(place / "one", *data, *LORA)


@pytest.fixture(scope="module")
def two(place, data, one) -> Path:
    """The directory of both ranks' runs."""
    return on_two(place, *data, *LORA)


def on_two(directory: Path, *overrides: str) -> Path:
    code = "import test_sharded as t; t.rank(t.Path(sys.argv[1]), *sys.argv[2:])"
    both(code, str(directory), *overrides, logs=directory)
    return directory


def difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of two sets of tensors over the norm of the second."""
    assert ours.keys() == theirs.keys()
    apart = torch.cat([(ours[name] - theirs[name]).flatten() for name in theirs])
    return float(apart.norm() / torch.cat([tensor.flatten() for tensor in theirs.values()]).norm())


def same_metrics(made: Run, wanted: Run, most: float) -> None:
    """All that the runs logged differs by at most `most`, relatively."""
    for prefix in ("train/", "eval/"):
        found, values_at = made.metrics(prefix), wanted.metrics(prefix)
        assert found.keys() == values_at.keys()
        for step, values in values_at.items():
            assert found[step] == pytest.approx(values, rel=most), step


@pytest.mark.parametrize("name", STRATEGIES)
def test_losses_norms_and_weights_are_those_of_one_process(one, two, name):
    made = Run(two / name, 0.0)
    same_metrics(made, one, 1e-5)
    assert {"train/grad_norm", "train/kl_loss", "train/sft_loss"} <= set(one.metrics("train/")[1])
    assert one.metrics("train/")[1]["train/grad_norm"] > 0.5  # so that it was clipped
    assert made.steps() == [1, 2, 3]
    for step in (1, 2, 3):
        assert difference(made.adapter(step), one.adapter(step)) < 1e-5


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_checkpoint_is_that_of_one_process(one, two, name):
    """Optimizer state and all: any strategy may go on from it, on any number of ranks."""
    ours, theirs = Run(two / name, 0.0).trainer_state(2), one.trainer_state(2)
    assert difference(ours["state_dict"], theirs["state_dict"]) < 1e-5
    (state,), (wanted,) = ours["optimizer_states"], theirs["optimizer_states"]
    assert [group["params"] for group in state["param_groups"]] == [g["params"] for g in wanted["param_groups"]]
    assert [group["lr"] for group in state["param_groups"]] == [g["lr"] for g in wanted["param_groups"]]
    for moment, most in (("step", 1e-9), ("exp_avg", 1e-5), ("exp_avg_sq", 1e-5)):
        flat = [{str(i): each[moment] for i, each in of["state"].items()} for of in (state, wanted)]
        assert difference(*flat) < most, moment


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_resumed_run_ends_as_the_whole_one(two, name):
    whole, resumed = Run(two / name, 0.0), Run(two / f"{name}-resumed", 0.0)
    assert resumed.steps() == [2, 3]
    same_metrics(resumed, whole, 1e-7)
    assert difference(resumed.adapter(), whole.adapter()) < 1e-7


def test_two_processes_go_on_from_the_checkpoint_of_one(one, two):
    resumed = Run(two / "one-resumed", 0.0)
    assert resumed.steps() == [2, 3]
    assert difference(resumed.adapter(), one.adapter()) < 1e-5
    for step, values in one.metrics("train/").items():
        assert resumed.metrics("train/")[step] == pytest.approx(values, rel=1e-5), step


@pytest.mark.parametrize("name", ["fsdp", "zero3"])
def test_one_process_goes_on_from_the_checkpoint_of_two(two, data, tmp_path, name):
    made = Run(two / name, 0.0)
    resumed = run(tmp_path / "resumed", *data, *LORA, f"resume_from={made.checkpoint(1)}")
    assert difference(resumed.adapter(), made.adapter()) < 1e-5
    assert resumed.metrics("train/")[3] == pytest.approx(made.metrics("train/")[3], rel=1e-5)


@pytest.mark.slow
def test_full_tuning_is_that_of_one_process(data, tmp_path):
    """Of all towers, with checkpointing: what is logged, the models that are written, and how they go on."""
    one = run(tmp_path / "one", *data, *FULL)
    on_two(tmp_path, *data, *FULL)
    for name in STRATEGIES:
        made, resumed = Run(tmp_path / name, 0.0), Run(tmp_path / f"{name}-resumed", 0.0)
        same_metrics(made, one, 1e-5)
        same_metrics(resumed, made, 1e-7)
        assert difference(change(made), change(one)) < 1e-4, name
        assert difference(resumed.model(), made.model()) < 1e-7, name


def change(of: Run) -> dict[str, torch.Tensor]:
    """What the last two steps did to the weights of a whole model."""
    before = of.model(1)
    return {name: weight - before[name] for name, weight in of.model(3).items()}


@pytest.mark.slow
def test_bfloat16_is_that_of_one_process(data, tmp_path):
    """But for ZeRO-3, whose own linear layers round the backward pass in another order."""
    options = (*data, *LORA, "model.torch_dtype=bfloat16", "trainer.gradient_checkpointing=true")
    one = run(tmp_path / "one", *options)
    on_two(tmp_path, *options)
    for name in ("ddp", "fsdp", "zero2"):
        same_metrics(Run(tmp_path / name, 0.0), one, 1e-5)
    found, wanted = Run(tmp_path / "zero3", 0.0).metrics("train/"), one.metrics("train/")
    assert found[1]["train/loss"] == wanted[1]["train/loss"]
    for step in (2, 3):
        assert found[step]["train/loss"] == pytest.approx(wanted[step]["train/loss"], rel=2e-3)
