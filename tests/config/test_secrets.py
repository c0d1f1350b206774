"""A secret in a configuration is refused before anything is saved, and not repeated; what only looks odd passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dvlm.config import keys, secrets
from dvlm.config.compose import compose
from dvlm.values import InputError

ROOT = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef" * 2 + "01234567"  # 40 digits, as W&B's
SECRETS = {
    "a W&B key": [KEY, f"local-{KEY}", "wandb_v1_" + "a1B2" * 12],
    "a Hugging Face token": ["hf_" + "aB3" * 12, "token is hf_" + "aB3" * 12],
    "a GitHub or GitLab token": ["ghp_" + "aB3" * 12, "glpat-" + "aB3" * 8],
    "an AWS key": ["AKIA" + "ABCD" * 4],
    "an API key": ["sk-" + "aB3" * 12],
    "a private key": ["-----BEGIN OPENSSH PRIVATE KEY-----"],
    "a password in an address": ["https://user:word@example.org/model"],
    "a secret variable": ["export WANDB_API_KEY=abcdefgh", "HF_TOKEN='abcdefgh'"],
    "a reference to a secret variable": ["${oc.env:HF_TOKEN}", "${oc.env:my_password,none}"],
}
HARMLESS = [
    *(f"/models/snapshots/{KEY}/", "hf_models/a", "sk-learn", "https://example.org:8080/a@b", "export A=$HF_TOKEN"),
    *(
        "请描述图片中的所有物体: token=3",
        "max_new_tokens=2048",
        "export HF_TOKEN=$OTHER",
        "照片 (1), a=b",
        "disk-" + "a" * 30,
    ),
]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, found in SECRETS.items() for text in found])
def test_a_secret_is_refused_and_not_repeated(name, text):
    for override, key in (
        (f"data.user_prompt={text}", "data.user_prompt"),
        ('logger.wandb.tags=["' + text + '"]', "logger.wandb.tags"),
    ):
        with pytest.raises(InputError) as caught:
            compose("train", [override])
        message = str(caught.value)
        assert key in message.partition(" holds what looks like ")[0]
        assert message.partition(" holds what looks like ")[2].startswith(name)
        assert "WANDB_API_KEY" in message
        assert text not in message


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_odd_passes(text):
    secrets.check("a", {"b": [text, {"C": text}]})
    assert compose("train", [f"logger.wandb.project={text!r}".replace("$", r"\$")]).logger.wandb.project


def test_variables_of_jobs_and_shell_lines_of_launchers_are_looked_at():
    lines = "hydra.launcher.setup=['module load cuda','export WANDB_API_KEY=abcdefgh']"
    for overrides in (["+hydra.job.env_set.HF_TOKEN=abcdefgh"], ["hydra/launcher=slurm", lines]):
        with pytest.raises(InputError, match="holds what looks like a secret variable"):
            compose("train", overrides)
    with pytest.raises(InputError, match="^hydra.job.env_set.HF_TOKEN holds what looks like a secret variable"):
        secrets.check("hydra.job", {"env_set": {"NCCL_DEBUG": "INFO", "HF_TOKEN": "abcdefgh"}})
    compose("train", ["+hydra.job.env_set.NCCL_DEBUG=INFO", "hydra/launcher=slurm"])


def test_a_reference_that_a_file_resolves_is_found_by_its_value(monkeypatch):
    monkeypatch.setenv("HARMLESS_NAME", KEY)
    with pytest.raises(InputError, match=r"the configuration.logger.wandb.entity holds what looks like a W&B key"):
        compose("train", ["logger.wandb.entity=${oc.env:HARMLESS_NAME}"])


def test_no_shipped_option_has_one():
    for file in keys.CONF.rglob("*.yaml"):
        secrets.check(file.name, yaml.safe_load(file.read_text(encoding="utf-8")))


def test_nothing_is_written_where_one_is_refused(tmp_path):
    command = [sys.executable, "-m", "dvlm.train", f"hydra.run.dir={tmp_path / 'run'}", f"logger.wandb.project={KEY}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 2
    assert KEY not in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()
