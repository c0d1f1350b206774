"""What others wrote is data: paths lead nowhere else, texts are no HTML, pickles do not run, keys do not leak."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_runs import Run, run
from unit.data import datakit

from dvlm import checkpoints
from dvlm.config import EngineConfig
from dvlm.config.compose import compose
from dvlm.dumps import Dump
from dvlm.export import export
from dvlm.inference.loading import load_engine
from dvlm.models import load
from dvlm.preview import preview
from dvlm.reporting.rows import as_csv
from dvlm.run import write_config
from dvlm.sweeps import identity
from dvlm.values import InputError

pytestmark = pytest.mark.faults

SCRIPT = "<script>alert(1)</script>"
IMAGE = '<img src=x onerror="alert(1)">'
ENVIRONMENT = {
    "WANDB_API_KEY": "0f1e2d3c4b5a69788796a5b4c3d2e1f001234567",
    "HF_TOKEN": "hf_" + "Zz9" * 12,
    "AWS_SECRET_ACCESS_KEY": "Qq7" * 13,
    "MY_PASSWORD": "correct-horse-battery",
}


class Payload:
    """A pickle of it makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    """A run that logs everywhere, with secrets in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        directory = tmp_path_factory.mktemp("run")
        loggers = ("logger=wandb", "logger.wandb.mode=offline", "logger.tensorboard=true")
        return run(directory, *loggers, "trainer.max_steps=2", "trainer.save_steps=1")


@pytest.fixture
def copied(trained, tmp_path) -> Run:
    """A run to spoil."""
    shutil.copytree(trained.directory, tmp_path / "copy", symlinks=True)
    return Run(tmp_path / "copy", 0.0)


def spoil(checkpoint: Path, name: str, content: bytes) -> None:
    """Put other bytes in a file's place, and let the manifest say that they belong there."""
    (checkpoint / name).write_bytes(content)
    (checkpoint / checkpoints.MANIFEST).unlink()
    checkpoints._write_manifest(checkpoint)
    assert checkpoints.fault(checkpoint) is None


def pickles(mark: Path) -> dict[str, bytes]:
    """The payload alone, and in what torch.save writes: both run when torch reads them without care."""
    modern, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": Payload(mark), "global_step": 1}, modern)
    torch.save(Payload(mark), legacy, _use_new_zipfile_serialization=False)
    return {"plain": pickle.dumps(Payload(mark)), "torch": modern.getvalue(), "old torch": legacy.getvalue()}


def test_the_payload_works(tmp_path):
    """Or nothing is shown below."""
    for number, content in enumerate(pickles(tmp_path / "mark").values()):
        if number:
            torch.load(io.BytesIO(content), weights_only=False)
        else:
            pickle.loads(content)  # noqa: S301
        (tmp_path / "mark").rmdir()


@pytest.mark.parametrize("kind", ["plain", "torch", "old torch"])
def test_a_pickle_in_place_of_the_trainer_state_is_refused(copied, tmp_path, kind):
    mark, checkpoint = tmp_path / "mark", copied.checkpoint(1)
    spoil(checkpoint, checkpoints.TRAINER, pickles(mark)[kind])
    with pytest.raises(
        InputError, match=r"trainer.ckpt is not what a run saves: .*Nothing in it was run; take another"
    ):
        run(tmp_path / "resumed", "trainer.max_steps=2", f"resume_from={checkpoint}")
    assert not mark.exists()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin", "model.safetensors"])
@pytest.mark.parametrize("kind", ["plain", "torch"])
def test_a_pickle_in_place_of_weights_is_refused(copied, tmp_path, tiny, kind, name):
    """Where an adapter continues a stage, answers or is merged; and where a base model is loaded."""
    mark, checkpoint = tmp_path / "mark", copied.checkpoint(1)
    content = pickles(mark)[kind]
    if name.startswith("model"):
        model = tmp_path / "model"
        shutil.copytree(tiny, model)
        (model / name).write_bytes(content)
        with pytest.raises(InputError, match="cannot be loaded"):
            load.load_model(compose("train", [f"model.model={model}"]).model, packing=False)
        assert not mark.exists()
        return
    (checkpoint / "adapter_model.safetensors").unlink()
    spoil(checkpoint, name, content)
    wanted = r"adapter_model.safetensors( cannot be read as safetensors, and as nothing else| in /)"
    with pytest.raises(InputError, match=wanted):
        run(tmp_path / "stage", "trainer.max_steps=1", f"tuner.resume_from_checkpoint={checkpoint}")
    with pytest.raises(InputError, match=wanted):
        load_engine(str(checkpoint), None, EngineConfig())
    with pytest.raises(InputError, match=wanted):
        export(compose("export", [f"checkpoint={checkpoint}", f"output={tmp_path / 'merged'}"]))
    assert not mark.exists()


def test_a_pickle_in_a_dump_is_refused(trained, tmp_path):
    dump, mark = tmp_path / "dump", tmp_path / "mark"
    dump.mkdir()
    write_config(dump, compose("train", []))
    (dump / "step.json").write_text('{"step": 1, "what": "", "values": {}, "records": []}')
    (dump / "trainable.safetensors").write_bytes(pickles(mark)["torch"])
    with pytest.raises(InputError, match="trainable.safetensors cannot be read as safetensors"):
        Dump.read(dump)
    assert not mark.exists()


def test_code_beside_a_model_is_not_run(tiny, tmp_path):
    """Neither of a kind of model that transformers does not know, nor of one that it does."""
    for kind in ("evil", "qwen3_vl"):
        model = tmp_path / kind
        shutil.copytree(tiny, model)
        (model / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'mark')!r})\n")
        for name in ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json"):
            if (model / name).is_file():
                facts = json.loads((model / name).read_text())
                facts["auto_map"] = {"AutoConfig": "evil.Config", "AutoProcessor": "evil.Processor"}
                (model / name).write_text(json.dumps(facts | ({"model_type": kind} if name == "config.json" else {})))
        if kind == "evil":
            with pytest.raises(InputError, match="cannot be loaded"):
                load.load_config(str(model))
        else:
            load.load_config(str(model))
        try:
            load.load_processor(str(model))
        except InputError as error:
            assert str(error).startswith("model.model: no processor in")  # noqa: PT017
    assert not (tmp_path / "mark").exists()


def test_nothing_of_a_run_holds_a_secret_of_the_environment(trained):
    files = [path for path in trained.directory.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"run.json", "config.yaml", "logging.jsonl", "trainer.ckpt"} <= names
    assert any(path.suffix == ".wandb" for path in files)
    assert any(path.name.startswith("events.out") for path in files)
    leaks = [(path.name, name) for path in files for name, value in ENVIRONMENT.items() if found(value, path)]
    assert not leaks
    (trained.directory / "probe").write_text(ENVIRONMENT["HF_TOKEN"])
    assert found(ENVIRONMENT["HF_TOKEN"], trained.directory / "probe")


def found(text: str, file: Path) -> bool:
    """Whether a text stands in a file, or in a member of it where it is a zip."""
    content = file.read_bytes()
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            content += b"".join(archive.read(name) for name in archive.namelist())
    return text.encode() in content


def hostile(folder: Path, **changes) -> list[str]:
    """The options of a record whose texts and names are HTML."""
    name = f"{IMAGE}{SCRIPT.replace('/', '∕')}.png"
    datakit.picture(folder / name)
    objects = [{"bbox_2d": [4, 5, 30, 40], "desc": f"{SCRIPT}/{IMAGE}:</script>"}]
    row = datakit.row(image=name, objects=objects, summary=f"{SCRIPT}</title>") | changes
    file = datakit.write(folder / f"{IMAGE} a.jsonl", row, datakit.row())
    return ["data=jsonl", f"data.train_jsonl={file}", f"data.image_root={folder}"]


@pytest.mark.parametrize("ratio", [0, 1])
def test_texts_and_names_of_a_record_are_no_html(tmp_path, cache, ratio):
    output = tmp_path / "page.html"
    data = hostile(tmp_path / f"{SCRIPT.replace('/', '∕')}")
    preview(
        compose(
            "preview", [*data, f"cache_dir={cache}", f"output={output}", f"data.summary_ratio={ratio}", "samples=2"]
        )
    )
    text = output.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not re.search(r"<script|<img src=x|onerror=\"", text)
    assert "default-src &#x27;none&#x27;" in text


@pytest.mark.parametrize("path", ["../secret.png", "out.png", "/etc/hostname"])
def test_a_path_that_leads_out_stops_each_verb_that_reads_records(tmp_path, cache, path):
    from dvlm.train import train

    datakit.picture(tmp_path / "secret.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out.png").symlink_to(tmp_path / "secret.png")
    data = [*hostile(tmp_path / "in", images=[path]), f"cache_dir={cache}", "logger=none"]
    wanted = re.escape(f".jsonl:1: images: {tmp_path / 'in' / path}; expected a path that leads into data.image_root")
    with pytest.raises(InputError, match=wanted):
        train(compose("train", data), tmp_path / "run")
    with pytest.raises(InputError, match=wanted):
        preview(compose("preview", [*data, f"output={tmp_path / 'page.html'}"]))


def test_overrides_make_no_paths():
    for override in (
        "data.user_prompt=../../etc",
        "a=/b",
        "a=..",
        "a=~",
        "a=$(rm)",
        "a=\0\n",
        f"a={SCRIPT}",
        "a=" + "图" * 99,
    ):
        slug = identity.slug([override])
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", slug)
        assert len(slug) <= identity.LONGEST_SLUG


def test_a_table_holds_no_formulas():
    texts = ["=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(A1)", "\t=1", "plain", "a=b"]
    (row,) = csv.DictReader(io.StringIO(as_csv([{str(i): text for i, text in enumerate(texts)} | {"loss": -1.5}])))
    assert list(row.values()) == [*(f"'{text}" for text in texts[:5]), "plain", "a=b", "-1.5"]


def test_weights_of_numbers_are_read(tmp_path):
    """What is refused is refused for what it is."""
    from dvlm.models import weights

    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert weights.read(tmp_path / "a.safetensors")["a"].tolist() == [1, 1]
