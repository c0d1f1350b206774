"""What a user sees of the configuration: --help, --cfg, errors in one line before anything heavy is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dvlm.config import TrainConfig, keys
from dvlm.config.roots import ROOTS

HEAVY = ("torch", "transformers", "lightning", "albumentations", "wandb", "peft", "cv2")


def run(directory: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"dvlm.{verb}", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True)


def test_help_of_train(tmp_path):
    done = run(tmp_path, "train", "--help")
    assert done.returncode == 0, done.stderr
    for group in keys.groups_of(TrainConfig):
        for option in keys.options(group):
            assert f" {group}={option} " in done.stdout
    for experiment in keys.options("experiment"):
        assert f" +experiment={experiment} " in done.stdout
    assert "`" not in done.stdout.partition("Knobs of the root")[2].partition("Every knob")[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", sorted(set(ROOTS) - {"train"}))
def test_help_of_a_verb(verb, tmp_path):
    done = run(tmp_path, verb, "--help")
    assert done.returncode == 0, done.stderr
    assert f"python -m dvlm.{verb}" in done.stdout


def test_cfg_prints_the_composed_configuration(tmp_path):
    """Also where values are missing, or do not fit: this is how a user finds out."""
    done = run(tmp_path, "train", "--cfg", "job", "+experiment=gkd_forward", "data=jsonl", "rlhf.beta=-1")
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert config["rlhf"]["rlhf_type"] == "gkd"
    assert config["rlhf"]["beta"] == -1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rlhf.beat=1"], "unknown key 'rlhf.beat'; did you mean 'rlhf.beta'?"),
        (["rlhf.beta=abc"], "rlhf.beta in 'rlhf.beta=abc'"),
        (["data=jsonl"], "give data.train_jsonl=<"),
        (["-m", "rlhf=gkd_forward,gkd_foward"], "rlhf has no option 'gkd_foward'; did you mean 'gkd_forward'?"),
        (["-m", "rlhf=gkd_forward", "rlhf.beta=0.1,-1"], "rlhf.beta is -1.0, expected at least 0"),
    ],
    ids=["key", "type", "missing", "option in a sweep", "value in a sweep"],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(arguments, message, tmp_path):
    done = run(tmp_path, "train", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
    assert not list(tmp_path.iterdir())


def test_composing_loads_nothing_heavy(tmp_path):
    script = (
        "import sys; from dvlm.config.compose import compose; from dvlm.config.reference import markdown\n"
        "compose('train', ['+experiment=gkd_forward', 'augmentation=dense']); markdown()\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_verb_loads_anything_heavy_before_its_configuration_is_read(tmp_path):
    """A typo ends every verb, a wrong launch a run, and `--cfg job` answers, without torch: all in one process."""
    script = (
        "import importlib, sys\n"
        f"for verb in {sorted(ROOTS)}:\n"
        "    module = importlib.import_module(f'dvlm.{verb}')\n"
        "    sys.argv = [verb, 'no_such_knob=1']\n"
        "    try:\n"
        "        module.main()\n"
        "    except SystemExit as ended:\n"
        "        assert ended.code == 2, (verb, ended.code)\n"
        "    else:\n"
        "        raise AssertionError(f'{verb} takes no_such_knob')\n"
        f"    assert not [name for name in {HEAVY} if name in sys.modules], (verb, list(sys.modules))\n"
        "try:\n"
        "    sys.argv = ['train', 'trainer.devices=2', 'data.packs_per_step=2']\n"
        "    importlib.import_module('dvlm.train').main()\n"
        "except SystemExit as ended:\n"
        "    assert ended.code == 2\n"
        "sys.argv = ['train', '--cfg', 'job']\n"
        "importlib.import_module('dvlm.train').main()\n"
        f"assert not [name for name in {HEAVY} if name in sys.modules]\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("unknown key 'no_such_knob'") == len(ROOTS)
    assert "no launcher started the 2 ranks" in done.stderr
    assert yaml.safe_load(done.stdout)["model"]["model"] == "tiny"
