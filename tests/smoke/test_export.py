"""A checkpoint becomes a model that plain transformers loads, and that answers as the adapted one did."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from tiny_runs import GKD, Run, run
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from dvlm import checkpoints
from dvlm.config import ExportConfig
from dvlm.export import export
from dvlm.models import merge
from dvlm.models.tiny import prepare
from dvlm.values import InputError

CODE = Path(__file__).resolve().parents[2]
STRONG = "optim.learning_rate=0.02"  # so that an adapter that gets lost is seen


@pytest.fixture(scope="module")
def gkd(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("runs") / "gkd", GKD, STRONG, "trainer.save_steps=2")


@torch.no_grad()
def logits(model: torch.nn.Module, checkpoint: Path) -> torch.Tensor:
    """Of a picture of noise with a question, and of a question alone, padded to one batch."""
    processor = AutoProcessor.from_pretrained(checkpoint)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 64, 3), np.uint8))
    pictured = [{"type": "image", "image": noise}, {"type": "text", "text": "请描述图片中的所有物体"}]
    alone = [{"type": "text", "text": "BBU设备/品牌:华为"}]
    batch = processor.apply_chat_template(
        [[{"role": "user", "content": content}] for content in (pictured, alone)],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )
    return model.eval()(**batch).logits[batch["attention_mask"].bool()].float()


def plain(path: Path | str) -> Qwen3VLForConditionalGeneration:
    return Qwen3VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32)


def difference(checkpoint: Path, merged: Path, base: Path) -> float:
    """Largest difference of logits between the adapter on its base and the merged model, both loaded plainly."""
    adapted = PeftModel.from_pretrained(plain(base), checkpoint)
    wanted, found = logits(adapted, checkpoint), logits(plain(merged), merged)
    with adapted.disable_adapter():
        untrained = logits(adapted, checkpoint)
    assert (wanted - untrained).abs().max() > 0.1
    return float((wanted - found).abs().max())


@pytest.mark.parametrize(
    "knobs",
    [
        ("tuner.freeze_vit=false", "tuner.freeze_aligner=false"),
        ("tuner.use_rslora=true",),
        ("tuner.use_dora=true",),
        ("tuner.modules_to_save=[aligner]",),
        ("tuner.target_regex='^$'", "tuner.modules_to_save=[aligner]"),
        ("tuner.freeze_vit=false", "tuner.lora_bias=all"),
    ],
    ids=["all-towers", "rslora", "dora", "aligner-whole", "aligner-only", "biases"],
)
def test_merged_logits_are_those_of_the_adapted_model(knobs, tiny, tmp_path):
    made = run(tmp_path / "run", GKD, STRONG, "data.sample_limit=4", *knobs)
    export(ExportConfig(checkpoint=str(made.directory), output=str(tmp_path / "merged")))
    assert difference(made.checkpoint("best"), tmp_path / "merged", tiny) <= 1e-4


def test_full_tuning(tmp_path):
    made = run(
        tmp_path / "run", "tuner=full", "tuner.freeze_vit=false", "tuner.freeze_aligner=false", "data.sample_limit=4"
    )
    export(ExportConfig(checkpoint=str(made.directory), output=str(tmp_path / "merged")))
    whole, merged = plain(made.checkpoint("best")), plain(tmp_path / "merged")
    assert torch.equal(logits(whole, tmp_path / "merged"), logits(merged, tmp_path / "merged"))
    kept = made.trainer_state()["state_dict"]
    for name, weight in merged.named_parameters():
        assert torch.equal(weight, kept[f"model.{name}"]), name


def test_the_command_that_a_run_prints_works_in_an_awkward_place(tiny, tmp_path, capsys):
    made = run(tmp_path / "机柜 run=1, (best) it's", GKD, STRONG, "data.sample_limit=4")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("next"))
    _, python, *arguments = shlex.split(line)
    assert python == "python"
    done = subprocess.run([sys.executable, *arguments], cwd=CODE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    merged = made.directory / "merged"
    assert f"from_pretrained('{merged}')" in done.stdout.replace('"', "'")
    assert difference(made.checkpoint("best"), merged, tiny) <= 1e-4


def test_a_run_directory_means_its_best_and_the_rest_comes_along(gkd, tmp_path):
    merged = tmp_path / "merged"
    export(ExportConfig(checkpoint=str(gkd.directory), output=str(merged), torch_dtype="bfloat16"))
    assert json.loads((merged / "config.json").read_text())["dtype"] == "bfloat16"
    assert (merged / "prompts.json").read_bytes() == (gkd.checkpoint("best") / "prompts.json").read_bytes()
    names = {path.name for path in merged.iterdir()}
    assert names >= {"model.safetensors", "preprocessor_config.json", "processor_config.json", "generation_config.json"}
    assert not any("adapter" in name for name in names)
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())
    processor = AutoProcessor.from_pretrained(merged)
    assert processor.image_processor.size["longest_edge"] == 16384


def test_an_output_that_exists_is_kept_unless_told_otherwise(gkd, tmp_path, monkeypatch):
    merged = tmp_path / "merged"
    merged.mkdir()
    (merged / "mine.txt").write_text("mine")
    config = ExportConfig(checkpoint=str(gkd.checkpoint(2)), output=str(merged))
    with pytest.raises(InputError, match="output: .* exists; .* overwrite=true"):
        export(config)
    config = replace(config, overwrite=True, torch_dtype="float32")
    with monkeypatch.context() as patched:
        patched.setattr(merge, "TOLERANCE", -1.0)
        with pytest.raises(InputError, match="the merged model is not the adapted one"):
            export(config)
        patched.setattr(merge, "TOLERANCE", 1.0)
        patched.setattr(os, "replace", broken_after(1))
        with pytest.raises(OSError, match="disk"):
            export(config)
    assert [path.name for path in merged.iterdir()] == ["mine.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    export(config)
    assert not (merged / "mine.txt").exists()
    assert (merged / "model.safetensors").is_file()


def broken_after(calls: int) -> Callable[[Path, Path], None]:
    """`os.replace` that fails once, after so many calls."""
    left, real = iter([True] * calls + [False]), os.replace

    def rename(source: Path, target: Path) -> None:
        if not next(left, True):
            raise OSError("disk")
        real(source, target)

    return rename


@pytest.mark.parametrize(("kind", "bound"), [("int8", 1e-2), ("int4", 0.5)])
def test_quantized_weights(kind, bound, gkd, tmp_path, capsys):
    output = tmp_path / kind
    export(ExportConfig(checkpoint=str(gkd.checkpoint(2)), output=str(output), quantize=kind))
    plainly = logits(plain(output), output).log_softmax(-1)
    export(ExportConfig(checkpoint=str(gkd.checkpoint(2)), output=str(tmp_path / "whole")))
    whole = logits(plain(tmp_path / "whole"), tmp_path / "whole").log_softmax(-1)
    divergence = float((whole.exp() * (whole - plainly)).sum(-1).mean())
    assert 0 < divergence < bound
    sizes = [(path / "model.safetensors").stat().st_size for path in (output, tmp_path / "whole")]
    assert sizes[0] < 0.8 * sizes[1]
    assert "mean KL" in capsys.readouterr().out
    assert f"weights in {kind}" in (output / "README.md").read_text(encoding="utf-8")


def test_the_card_tells_where_the_model_comes_from(gkd, tiny, tmp_path, capsys):
    output = tmp_path / "merged"
    config = ExportConfig(
        checkpoint=str(gkd.directory), output=str(output), also_legacy_processor_files=False, max_shard_size="1MB"
    )
    export(config)
    card = (output / "README.md").read_text(encoding="utf-8")
    facts = json.loads((gkd.directory / "run.json").read_text())
    wanted = [f"base_model: {tiny}", *facts["data"].values(), "`eval/sft_loss`", "请描述图片中的所有物体", "dvlm.train"]
    assert not [each for each in wanted if each not in card]
    (val,) = (file for file in facts["data"] if "val" in Path(file).name)
    assert f"a sample of {val}" in card
    assert f"a sample of {val}" in capsys.readouterr().out
    assert not (output / "preprocessor_config.json").exists()
    assert len(list(output.glob("model-*.safetensors"))) > 1


def test_another_base_than_its_own_is_refused(gkd, cache, tmp_path):
    config = ExportConfig(
        checkpoint=str(gkd.checkpoint(2)), output=str(tmp_path / "merged"), base_model=str(prepare(cache, seed=18))
    )
    with pytest.raises(InputError, match="base_model: .* was trained on .* not on"):
        export(config)
    assert not (tmp_path / "merged").exists()


def test_a_base_that_has_moved_can_be_named(gkd, tiny, tmp_path):
    checkpoint = tmp_path / "step-000002"
    shutil.copytree(gkd.checkpoint(2), checkpoint)
    settings = json.loads((checkpoint / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "/nowhere/base"
    (checkpoint / "adapter_config.json").write_text(json.dumps(settings))
    shutil.copytree(tiny, tmp_path / "base")
    (checkpoint / "manifest.json").unlink()
    checkpoints._write_manifest(checkpoint)
    config = {"checkpoint": str(checkpoint), "output": str(tmp_path / "merged")}
    with pytest.raises(InputError, match="/nowhere/base .* does not exist; .*base_model="):
        export(ExportConfig(**config))
    export(ExportConfig(**config, base_model=str(tmp_path / "base")))
    assert difference(checkpoint, tmp_path / "merged", tiny) <= 1e-4
