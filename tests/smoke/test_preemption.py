"""A run that is asked to stop, at whatever moment, ends as one that never was: parameters and losses, bit for bit.

The signals are real, sent by this process to itself at a chosen moment.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from support import small_config
from tiny_runs import GKD, SHORT, Run, same

from dvlm.callbacks.pictures import Pictures
from dvlm.learning.module import SFTModule
from dvlm.sweeps.attempt import PREEMPTED, carry_out
from dvlm.sweeps.place import Place
from dvlm.sweeps.status import State, Status
from dvlm.train import train
from dvlm.values import InputError

# Six steps over two epochs, validated at 2, 4 and 6, best and last saved, none else.
SIX = (GKD, *SHORT, "trainer.num_train_epochs=2", "trainer.eval_steps=2")
PICTURES = ("callbacks.sample_pictures=1", "callbacks.sample_max_new_tokens=8")


def start(directory: Path, *overrides: str) -> Run:
    """One start of the run in `directory`, as the command does it."""
    return Run(directory, carry_out(train, small_config(*SIX, *overrides), directory, Place.here({})))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    """The run that is never interrupted."""
    return start(tmp_path_factory.mktemp("whole"))


def assert_same_end(ours: Run, theirs: Run) -> None:
    mine, its = ours.trainer_state(), theirs.trainer_state()
    for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers"):
        same(mine[part], its[part], part)
    same(ours.adapter(), theirs.adapter())
    for prefix, steps in (("train/loss", 6), ("eval/", 4)):
        assert ours.metrics(prefix) == theirs.metrics(prefix)
        assert sum(any(name.startswith(prefix) for name in line) for line in ours.log) == steps
    assert ours.value == theirs.value


def signalled(monkeypatch, owner: type, method: str, number: int, *, call: int) -> None:
    """Send the signal in the middle of the given call of a method, once."""
    original, calls = getattr(owner, method), []

    def wrapped(*args, **options):
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return original(*args, **options)

    monkeypatch.setattr(owner, method, wrapped)


TERM, USR2, USR1 = signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR1


# The signal comes in this call of the method; the run stops after this step. Validations: before step 1, then three.
@pytest.mark.parametrize(
    ("number", "method", "call", "step"),
    [
        pytest.param(TERM, "training_step", 3, 3, id="step"),
        pytest.param(USR2, "validation_step", 2, 2, id="validation"),
        pytest.param(USR1, "training_step", 4, 4, id="step-that-is-validated", marks=pytest.mark.slow),
        pytest.param(USR2, "training_step", 6, 6, id="last-step", marks=pytest.mark.slow),
        pytest.param(TERM, "validation_step", 4, 6, id="last-validation", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(whole, tmp_path, number, method, call, step):
    handler = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, SFTModule, method, number, call=call)
        with pytest.raises(SystemExit) as stopped:
            start(tmp_path)
    assert stopped.value.code == PREEMPTED
    assert signal.getsignal(number) is handler
    status = Status.read(tmp_path)
    assert (status.state, status.step, status.error) == (State.PREEMPTED, step, None)
    assert Run(tmp_path, 0.0).steps()[-1] == step
    assert_same_end(start(tmp_path), whole)
    status = Status.read(tmp_path)
    assert (status.state, status.step, status.steps, status.restarts) == (State.SUCCEEDED, 6, 6, 1)
    assert status.value == whole.value
    assert json.loads((tmp_path / "run.json").read_text())["restarts"] == 1


def test_while_generating(whole, tmp_path):
    """The pictures of the validation of step 2 are cut short; the resumed run draws them whole."""
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, Pictures, "on_validation_end", USR1, call=2)
        with pytest.raises(SystemExit):
            start(tmp_path, *PICTURES)
    assert Status.read(tmp_path).step == 2
    half = (tmp_path / "samples" / "step-000002" / "1.txt").read_text()
    assert_same_end(start(tmp_path, *PICTURES), whole)
    assert len((tmp_path / "samples" / "step-000002" / "1.txt").read_text()) > len(half)


@pytest.mark.slow
def test_before_the_first_step_nothing_is_saved_and_nothing_lost(whole, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, SFTModule, "validation_step", USR2, call=1)
        with pytest.raises(SystemExit):
            start(tmp_path)
    assert Run(tmp_path, 0.0).steps() == []
    assert_same_end(start(tmp_path), whole)


def test_a_directory_is_not_continued_with_other_options(whole):
    with pytest.raises(InputError, match=r"a run with other options \(rlhf.beta: 0.3, 0.1\)"):
        start(whole.directory, "rlhf.beta=0.3")
    assert Status.read(whole.directory).state is State.FAILED


def test_a_damaged_checkpoint_is_passed_over(whole, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, SFTModule, "training_step", USR2, call=3)
        with pytest.raises(SystemExit):
            start(tmp_path)
    newest = Run(tmp_path, 0.0).checkpoint(3) / "trainer.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert_same_end(start(tmp_path), whole)
