"""Steps that go wrong: found before the weights move, named, kept, run again; skipped exactly or the end of the run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from tiny_runs import GKD, Run, run, same

from dvlm.callbacks.guards import GuardError
from dvlm.config import ReplayConfig
from dvlm.learning.module import SFTModule
from dvlm.replay import again, replay
from dvlm.values import InputError

OPTIONS = (GKD, "data.packs_per_step=2", "trainer.num_train_epochs=2", "trainer.save_steps=1")
BAD = 1  # the second of three steps


@pytest.fixture
def poisoned(monkeypatch) -> None:
    """The loss of the packs of the second step is not a number, and nor are its gradients."""
    learn = SFTModule.learn

    def learns(module, batch):
        return learn(module, batch) * (torch.nan if batch.pack // 2 == BAD else 1.0)

    monkeypatch.setattr(SFTModule, "learn", learns)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("whole"), *OPTIONS)


@pytest.mark.usefixtures("poisoned")
def test_a_run_stops_and_says_where(tmp_path):
    with pytest.raises(GuardError) as caught:
        run(tmp_path, *OPTIONS)
    message = str(caught.value)
    for part in (
        "stopped: step 2: train/grad_norm is nan",
        "train.jsonl:",
        "Learning rate: llm 0.00",
        "Effective batch: 2 packs",
        f"python -m dvlm.replay {tmp_path / 'dumps' / 'step-000002'}",
        "docs/troubleshooting.md#nan-loss",
    ):
        assert part in message
    kept = Run(tmp_path, 0.0)
    assert kept.steps() == [1]
    facts = json.loads((tmp_path / "dumps" / "step-000002" / "step.json").read_text())
    assert facts["step"] == 1
    assert len(facts["records"]) >= 2


@pytest.mark.usefixtures("poisoned")
def test_a_skipped_step_changes_neither_weights_nor_optimizer(tmp_path, whole, caplog):
    with caplog.at_level(logging.WARNING):
        made = run(tmp_path, *OPTIONS, "callbacks.guards.policy=skip")
    assert "the step is skipped: step 2: train/grad_norm is nan" in caplog.text
    assert made.steps() == [1, 2, 3]
    before, after, end = (made.trainer_state(step) for step in (1, 2, 3))
    same(after["state_dict"], before["state_dict"])
    same(after["optimizer_states"][0]["state"], before["optimizer_states"][0]["state"])
    same(before["state_dict"], whole.trainer_state(1)["state_dict"])
    assert not torch.equal(*(next(iter(state["state_dict"].values())) for state in (end, after)))
    rates = [{k: v for k, v in values.items() if k.startswith("lr/")} for values in made.metrics("train/").values()]
    assert rates == [
        {k: v for k, v in values.items() if k.startswith("lr/")} for values in whole.metrics("train/").values()
    ]
    same(end["lr_schedulers"], whole.trainer_state(3)["lr_schedulers"])


@pytest.mark.usefixtures("poisoned")
def test_one_skip_too_many_is_the_end(tmp_path):
    with pytest.raises(GuardError, match="stopped: step 2"):
        run(tmp_path, *OPTIONS, "callbacks.guards.policy=skip", "callbacks.guards.max_skips=0")


def spiking(policy: str) -> tuple[str, ...]:
    """A spike is what is a little above the median of one step before."""
    options = ("window=2", "floor=0", "loss_factor=1.0000001", "kl_factor=1.5", f"spike_policy={policy}")
    return (*OPTIONS, *(f"callbacks.guards.{option}" for option in options))


def test_a_spike_is_warned_of_and_its_step_runs_again(tmp_path, whole, caplog, capsys):
    with caplog.at_level(logging.WARNING):
        made = run(tmp_path, *spiking("warn"))
    assert "warning: step 2: train/kl_loss is" in caplog.text
    assert "docs/troubleshooting.md#kl-spike" in caplog.text
    same(made.adapter(), whole.adapter())
    dump = tmp_path / "dumps" / "step-000002"
    assert replay(ReplayConfig(dump=str(dump)))
    assert "the same happens again" in capsys.readouterr().out
    facts = json.loads((dump / "step.json").read_text())
    facts["values"]["train/loss"] = "nan"
    (dump / "step.json").write_text(json.dumps(facts))
    assert not replay(ReplayConfig(dump=str(dump)))
    assert "does not happen again" in capsys.readouterr().out


def test_a_step_whose_answers_were_written_runs_again(tmp_path):
    """At a rate so high that the divergence rises: what the student wrote is written again, from its weights then."""
    written = ("rlhf=gkd", "rlhf.max_completion_length=6", "tuner.init_lora_weights=false", "optim.learning_rate=0.3")
    spikes = ("callbacks.guards.window=2", "callbacks.guards.floor=0", "callbacks.guards.kl_factor=1.0000001")
    made = run(tmp_path, *written, *spikes, "trainer.eval_at_start=false", "data.packs_per_step=1")
    dump = min((tmp_path / "dumps").iterdir())
    values = made.metrics("train/")[int(dump.name[-6:])]
    assert values["train/on_policy"] == 1.0
    now = again(ReplayConfig(dump=str(dump)))
    assert now["train/completion_length"] == values["train/completion_length"]
    assert now["train/kl_loss"] == pytest.approx(values["train/kl_loss"], rel=1e-4)


def test_weights_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    end = SFTModule.end_step

    def ends(module):
        end(module)
        if module.trainer.global_step == 2:
            next(p for p in module.parameters() if p.requires_grad).data[0, 0] = torch.inf

    monkeypatch.setattr(SFTModule, "end_step", ends)
    with pytest.raises(GuardError, match="a weight that trains is not finite, and nothing is saved"):
        run(tmp_path, *OPTIONS)
    assert Run(tmp_path, 0.0).steps() == [1]


def test_what_is_no_dump_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="is not a dump: expected a directory such as"):
        replay(ReplayConfig(dump=str(tmp_path)))
