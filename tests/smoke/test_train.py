"""The main job on the tiny model, a few steps at a time: what it logs, what it writes, what it refuses."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import wandb
from peft import PeftModel
from support import small_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny_runs import GKD, SHORT, Run, run
from transformers import Qwen3VLForConditionalGeneration

from dvlm import assembly
from dvlm.config.compose import compose
from dvlm.models.pixels import floats
from dvlm.models.tiny import prepare
from dvlm.reporting.workspace import as_json, workspace
from dvlm.train import train
from dvlm.values import InputError

ALWAYS = {"loss", "sft_loss", "token_accuracy", "token_count"}


@pytest.fixture(scope="module")
def gkd(tmp_path_factory) -> Run:
    """Three steps, validated at 0, 2 and 3, with every logger and a picture."""
    return run(
        tmp_path_factory.mktemp("gkd"),
        GKD,
        "trainer.eval_steps=2",
        "logger=wandb",
        "logger.tensorboard=true",
        "logger.wandb.mode=offline",
        "callbacks.sample_pictures=1",
        "callbacks.sample_max_new_tokens=8",
    )


@pytest.fixture(scope="module")
def sft(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("sft"), "rlhf=none")


def names(metrics: dict[str, float]) -> set[str]:
    return {name.split("/")[1] for name in metrics}


def test_gkd_logs_every_term_on_train_and_eval(gkd):
    train, evaluation = gkd.metrics("train/"), gkd.metrics("eval/")
    assert sorted(train) == [0, 1, 2, 3]
    assert sorted(evaluation) == [0, 2, 3]
    for step in (1, 2, 3):
        assert names(train[step]) >= ALWAYS | {"kl_loss", "grad_norm", "llm"}
    for values in evaluation.values():
        assert names(values) >= ALWAYS | {"kl_loss"}
    assert all(math.isfinite(value) for line in gkd.log for value in line.values())


def test_the_loss_is_its_two_terms_weighted(gkd):
    steps = [
        *((v, "train") for s, v in gkd.metrics("train/").items() if s),
        *((v, "eval") for v in gkd.metrics("eval/").values()),
    ]
    for values, stage in steps:
        expected = values[f"{stage}/sft_loss"] + 0.1 * values[f"{stage}/kl_loss"]
        assert values[f"{stage}/loss"] == pytest.approx(expected, rel=1e-6)


def test_the_student_starts_as_its_base_and_leaves_it(gkd):
    assert abs(gkd.log[0]["eval/kl_loss"]) < 1e-6
    assert abs(gkd.metrics("train/")[0]["train/kl_loss_at_start"]) < 1e-6
    kl = [values["eval/kl_loss"] for values in gkd.metrics("eval/").values()]
    assert 0 <= kl[0] < kl[1] < kl[2]


@torch.no_grad()
def test_the_logged_validation_is_what_plain_logits_give(gkd, tiny):
    """The last checkpoint on each validation sample alone: transformers, peft, and the definitions of the terms."""
    data = assembly.build_data(assembly.prepare(small_config(*SHORT)))
    model = PeftModel.from_pretrained(Qwen3VLForConditionalGeneration.from_pretrained(tiny), gkd.checkpoint()).eval()
    ce, kl, hits = [], [], []
    for index in range(data.val_line.turns):
        sample = data.val_line.sample(0, index)
        inputs = {
            "input_ids": sample.input_ids[None],
            "attention_mask": torch.ones_like(sample.input_ids)[None],
            "mm_token_type_ids": sample.mm_token_type_ids[None],
            "pixel_values": floats(sample.pixel_values),
            "image_grid_thw": sample.image_grid_thw,
        }
        with model.disable_adapter():
            teacher = model(**inputs).logits[0, :-1].double().log_softmax(-1)
        student, labels = model(**inputs).logits[0, :-1].double().log_softmax(-1), sample.labels[1:]
        wanted = labels != -100
        ce.append(-student[wanted].gather(1, labels[wanted][:, None])[:, 0])
        kl.append((teacher.exp() * (teacher - student)).sum(-1)[wanted])
        hits.append((student.argmax(-1) == labels)[wanted].double())
    logged = gkd.metrics("eval/")[3]
    assert logged["eval/sft_loss"] == pytest.approx(float(torch.cat(ce).mean()), rel=1e-5)
    assert logged["eval/kl_loss"] == pytest.approx(float(torch.cat(kl).mean()), rel=1e-3)
    assert logged["eval/token_accuracy"] == pytest.approx(float(torch.cat(hits).mean()))
    assert logged["eval/token_count"] == len(torch.cat(ce))


def test_the_loss_falls(gkd):
    losses = [values["eval/sft_loss"] for values in gkd.metrics("eval/").values()]
    assert losses[0] > losses[1] > losses[2]


def test_throughput_is_logged(gkd):
    lines = [line for line in gkd.log if "perf/tokens_per_second" in line]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["perf/tokens_per_second"] > 0 and 0 <= line["perf/data_wait_share"] <= 1 for line in lines)


def test_tensorboard_has_the_same_values(gkd):
    events = EventAccumulator(str(gkd.directory / "tensorboard"))
    events.Reload()
    for name, stage in (("train/kl_loss", "train/"), ("eval/kl_loss", "eval/"), ("lr/llm", "train/")):
        logged = {s: v[name] for s, v in gkd.metrics(stage).items() if name in v}
        written = {event.step: event.value for event in events.Scalars(name)}
        assert written == pytest.approx(logged, rel=1e-5, abs=1e-7)


def recorded(run: Run) -> list[dict]:
    """The records of a run's W&B recording."""
    (recording,) = (run.directory / "wandb").glob("offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", recording]
    out = subprocess.run(command, capture_output=True, check=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def test_wandb_has_the_same_values_and_its_panels_something_to_show(gkd):
    records = recorded(gkd)
    history: dict[int, dict[str, float]] = {}
    for record in records:
        item = record.get("history", {}).get("item", {})
        history.setdefault(item.get("trainer/global_step"), {}).update(item)
    for step, values in gkd.metrics("train/").items():
        assert {name: history[step][name] for name in values} == pytest.approx(values)
    assert history[2]["eval/kl_loss"] == pytest.approx(gkd.metrics("eval/")[2]["eval/kl_loss"])

    config = next(record["run"]["config"]["update"] for record in records if record.get("type") == "run")
    logged = {name for values in history.values() for name in values}
    shown = panel_keys(as_json(workspace("", "dvlm", "x")))
    assert {"eval/kl_loss", "eval/sft_loss", "config:rlhf.beta", "config:optim.learning_rate"} <= shown
    for key in shown:
        if key.startswith("config:"):
            group, name = key.removeprefix("config:").split(".")
            assert isinstance(config[group][name], float | int)
        else:
            assert key in logged


def panel_keys(view: dict) -> set[str]:
    """What the panels of a workspace's JSON show: names of metrics, and `config:` with a dotted key."""
    found = set()
    for section in view["spec"]["section"]["panelBankConfig"]["sections"]:
        assert section["panels"]
        for config in (panel["config"] for panel in section["panels"]):
            keys = [config.get(name) for name in ("xAxis", "yAxis", "zAxis", "targetKey")]
            keys += [*(config.get("metrics") or []), *(each["accessor"] for each in config.get("columns") or [])]
            found |= {key.removeprefix("summary:").replace(".value.", ".") for key in keys if key}
    return found


def test_tensorboard_compares_the_knobs_of_runs(gkd):
    """HParams: the knobs of this run, and curves that it really has as their metrics."""
    events = EventAccumulator(str(gkd.directory / "tensorboard"))
    events.Reload()
    data = {name: HParamsPluginData.FromString(text) for name, text in events.PluginTagToContent("hparams").items()}
    start = data["_hparams_/session_start_info"].session_start_info
    metrics = {each.name.tag for each in data["_hparams_/experiment"].experiment.metric_infos}
    assert start.hparams["rlhf.beta"].number_value == 0.1
    assert start.hparams["tuner.train_type"].string_value == "lora"
    assert metrics <= set(events.Tags()["scalars"])


def test_a_run_ends_its_wandb_run(gkd):
    """Else the next run of a sweep in this process would log into it."""
    assert wandb.run is None


def test_a_run_directory_says_what_was_run(gkd):
    described = json.loads((gkd.directory / "run.json").read_text())
    assert set(described["versions"]) >= {"torch", "transformers", "peft", "lightning"}
    assert sorted(Path(file).name for file in described["data"]) == ["train.jsonl", "val.jsonl"]
    assert all(hashlib.sha256(Path(f).read_bytes()).hexdigest() == digest for f, digest in described["data"].items())
    assert described["git"]["commit"] is None or len(described["git"]["commit"]) == 40
    assert described["plan"]["steps"] == 3
    assert "beta: 0.1" in (gkd.directory / "config.yaml").read_text()


def test_a_checkpoint_holds_only_what_trains(gkd):
    layers = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    adapter = gkd.adapter()
    assert len(adapter) == 4 * len(layers) * 2
    assert all(".lora_A." in name or ".lora_B." in name for name in adapter)
    assert all("visual" not in name and "lm_head" not in name for name in adapter)
    state = gkd.trainer_state()
    assert len(state["state_dict"]) == len(adapter)
    for name, tensor in state["state_dict"].items():
        assert torch.equal(tensor, adapter[name.removeprefix("model.").replace(".default.weight", ".weight")])
    assert len(state["optimizer_states"][0]["state"]) == len(adapter)
    files = {path.name for path in gkd.checkpoint().iterdir()}
    assert files >= {"adapter_config.json", "processor_config.json", "preprocessor_config.json", "prompts.json"}
    assert not any(name.startswith("model") for name in files)


def test_pictures_are_drawn_at_each_validation(gkd):
    for step in (0, 2, 3):
        folder = gkd.directory / "samples" / f"step-{step:06d}"
        assert (folder / "1.png").read_bytes().startswith(b"\x89PNG")
        truth, _, _ = (folder / "1.txt").read_text().partition("\n\n")
        assert json.loads(truth)["图片_1"]


def test_sft_logs_no_divergence(sft):
    assert sorted(sft.metrics("eval/")) == [0, 3]
    for stage in ("train/", "eval/"):
        for values in sft.metrics(stage).values():
            assert names(values) >= ALWAYS
            assert "kl_loss" not in names(values)
            assert values[f"{stage}loss"] == values[f"{stage}sft_loss"]


def test_sft_and_gkd_see_the_same_data_and_start_alike(sft, gkd):
    for name in ("train/sft_loss", "train/token_count"):
        assert sft.metrics("train/")[1][name] == gkd.metrics("train/")[1][name]


def test_sft_can_watch_its_distance_from_the_base(sft, tmp_path):
    watched = run(tmp_path, "rlhf=none", "rlhf.eval_kl=true")
    assert "train/kl_loss" not in watched.metrics("train/")[3]
    assert abs(watched.metrics("eval/")[0]["eval/kl_loss"]) < 1e-6 < watched.metrics("eval/")[3]["eval/kl_loss"]
    assert watched.metrics("train/")[3]["train/sft_loss"] == sft.metrics("train/")[3]["train/sft_loss"]


def test_a_teacher_of_its_own(cache, tmp_path):
    teacher = prepare(cache, seed=18)
    other = run(tmp_path, GKD, f"rlhf.teacher_model={teacher}")
    assert other.metrics("train/")[0]["train/kl_loss_at_start"] > 0.01
    assert other.metrics("train/")[1]["train/kl_loss"] > 0.01
    assert len(other.trainer_state()["state_dict"]) == 56


def test_the_base_given_as_a_path_is_the_base(tiny):
    prepared = assembly.prepare(small_config(GKD, f"rlhf.teacher_model={tiny}"))
    assert prepared.rlhf.teacher_model == "base"


def test_a_teacher_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="rlhf.teacher_model: .* does not exist"):
        assembly.prepare(small_config(GKD, f"rlhf.teacher_model={tmp_path / 'none'}"))
    with pytest.raises(InputError, match=r"rlhf.teacher_model: .* no config\.json"):
        assembly.prepare(small_config(GKD, f"rlhf.teacher_model={tmp_path}"))


def test_full_tuning_against_a_frozen_copy(tmp_path):
    full = run(tmp_path, GKD, "tuner=full", "optim.learning_rate=1e-4", "optim.max_grad_norm=null")
    assert abs(full.log[0]["eval/kl_loss"]) < 1e-6 < full.metrics("eval/")[3]["eval/kl_loss"]
    kept = full.trainer_state()["state_dict"]
    assert "model.model.language_model.embed_tokens.weight" in kept
    assert not any("visual" in name or "teacher" in name for name in kept)
    assert (full.checkpoint() / "model.safetensors").is_file()


def test_bfloat16_with_a_whole_aligner_and_pictures(tmp_path):
    low = run(
        tmp_path,
        GKD,
        "model.torch_dtype=bfloat16",
        "tuner.modules_to_save=[aligner]",
        "callbacks.sample_pictures=1",
        "callbacks.sample_max_new_tokens=4",
    )
    losses = [values["eval/sft_loss"] for values in low.metrics("eval/").values()]
    assert losses[0] > losses[-1]
    assert {tensor.dtype for tensor in low.trainer_state()["state_dict"].values()} == {torch.float32}
    assert {"lr/llm", "lr/aligner"} <= set(low.metrics("train/")[1])


def test_recomputed_activations_and_eager_attention_train_alike(gkd, tmp_path):
    other = run(tmp_path, GKD, "trainer.gradient_checkpointing=true", "model.attn_impl=eager")
    for step, values in gkd.metrics("train/").items():
        assert other.metrics("train/")[step] == pytest.approx(values, rel=1e-4, abs=1e-6)


def test_padded_batches_train_alike(sft, tmp_path):
    """Padding changes where tokens lie, not what they cost."""
    padded = run(tmp_path, "rlhf=none", "data.packing=false", "data.samples_per_pack=2")
    assert padded.metrics("eval/")[0]["eval/sft_loss"] == pytest.approx(
        sft.metrics("eval/")[0]["eval/sft_loss"], rel=1e-5
    )
    assert padded.metrics("eval/")[3]["eval/sft_loss"] < padded.metrics("eval/")[0]["eval/sft_loss"]


def test_without_validation_records(cache, demo_files, tmp_path):
    options = [f"data.train_jsonl={demo_files[0]}", "data.sample_limit=2", "logger=none", "callbacks=quiet"]
    value = train(compose("train", [f"cache_dir={cache}", "data=jsonl", *options]), tmp_path)
    assert math.isnan(value)
    assert not (tmp_path / "checkpoints" / "best").exists()
    assert (tmp_path / "checkpoints" / "last" / "adapter_model.safetensors").is_file()
