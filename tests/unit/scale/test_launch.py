"""Ranks that are not those of the configuration, and packages that are missing, are refused at once."""

from __future__ import annotations

import pytest
from support import small_config

from dvlm.config import TrainerConfig
from dvlm.scale import launch, strategies
from dvlm.values import InputError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}
FOUR = ("trainer.devices=2", "trainer.num_nodes=2", "data.packs_per_step=4")


@pytest.mark.parametrize(
    ("overrides", "environ"),
    [
        ((), {}),
        ((), {"SLURM_NTASKS": "4"}),  # in a batch script, or an interactive allocation, without srun
        (FOUR, TORCHRUN),
        (FOUR, SRUN),
        (("trainer.devices=2", "data.packs_per_step=2"), {"SUBMITIT_LOCAL_NTASKS": "2"}),
    ],
)
def test_the_ranks_that_run_are_those_that_are_named(overrides, environ):
    launch.check(small_config(*overrides), environ, [])


@pytest.mark.parametrize(
    ("overrides", "environ", "message"),
    [
        (FOUR, {"SLURM_NTASKS": "4"}, "no launcher started the 4 ranks"),
        ((), TORCHRUN, "torchrun started 4 ranks, 2 of them on this node, but .*trainer.devices=1"),
        (("trainer.devices=4", "data.packs_per_step=4"), TORCHRUN, "torchrun started 4 ranks, 2 of them on this node"),
        ((), SRUN, "srun started 4 ranks, but .*trainer.num_nodes=1"),
        (FOUR, TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}, "no id.*--standalone"),
    ],
)
def test_a_wrong_launch_is_refused(overrides, environ, message):
    with pytest.raises(InputError, match=message):
        launch.check(small_config(*overrides), environ, [])


def test_the_right_command_is_given():
    config = small_config("trainer.devices=8", "data.packs_per_step=8")
    with pytest.raises(InputError) as found:
        launch.check(config, {}, ["trainer=ddp", "model.model=/a b"])
    assert "torchrun --standalone --nproc-per-node=8 -m dvlm.train trainer=ddp 'model.model=/a b'" in str(found.value)
    with pytest.raises(InputError, match="torchrun --nnodes=2 --rdzv-id=<name> .* --nproc-per-node=2 -m dvlm.train"):
        launch.check(small_config(*FOUR), {}, [])


def test_missing_packages_are_named_at_once(monkeypatch):
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="strategy is zero3, but deepspeed is not installed; .*trainer=fsdp"):
        launch.check(small_config("trainer=zero3"), {}, [])
    flash = ("model.attn_impl=flash_attention_2", "model.torch_dtype=bfloat16")
    with pytest.raises(InputError, match="flash-attn is not installed; .*attn_impl=sdpa"):
        launch.check(small_config(*flash), {}, [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer=gpu", "trainer.accelerator=gpu needs GPUs, and torch sees none"),
        ("trainer=zero2", "trainer.strategy=zero2 needs GPUs.*trainer.accelerator=cpu"),
    ],
)
def test_missing_devices_are_named_at_once(monkeypatch, override, message):
    monkeypatch.setattr(strategies.torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        strategies.check_devices(small_config(override).trainer)


def test_too_few_gpus_are_named(monkeypatch):
    monkeypatch.setattr(strategies.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(strategies.torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="trainer.devices is 4, but this node has 2 GPUs"):
        strategies.check_devices(TrainerConfig(accelerator="gpu", devices=4))
    strategies.check_devices(TrainerConfig(accelerator="gpu", devices=2))
