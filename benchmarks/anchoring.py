"""Does the anchor hold? A base that has learned domain a learns domain b by SFT and by GKD: what is left of a?

    python benchmarks/anchoring.py --output outputs/anchoring      # base, students, table, figure
    python benchmarks/anchoring.py --output outputs/anchoring --base <run of an earlier call>/base

Everything is trained from nothing: the base in full on drawings of domain a, then one LoRA student a beta on domain b
(beta 0 is SFT), from the same start, on the same packs. On validation drawings that nobody was trained on, both domains
are then measured: cross-entropy, KL from the base, and the F1 of what the greedy answers name, by class, with place
(IoU 0.5) and without. Writes `anchoring.json` and `anchoring.png`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from dvlm import assembly, process
from dvlm.config.compose import compose
from dvlm.config.job import Job
from dvlm.data import answers
from dvlm.data.datamodule import CaptionDataModule
from dvlm.learning.module import SFTModule
from dvlm.metrics import sums as counting
from dvlm.metrics.scores import scores
from dvlm.metrics.words import class_of
from dvlm.models import generate
from dvlm.values import InputError, Sample

COMMON = (
    "data.images_per_user_turn=1",
    "data.max_pixels=65536",
    "data.emit_norm=norm100",
    "global_max_length=1024",
    "logger=none",
    "callbacks=quiet",
)
BASE = (
    "tuner=full",
    "tuner.freeze_vit=false",
    "tuner.freeze_aligner=false",
    "data.demo.train=600",
    "data.packs_per_step=2",
    "trainer.num_train_epochs=6",
    "optim.learning_rate=2e-3",
)
STUDENT = (
    "data.demo.domain=b",
    "data.demo.train=60",
    "trainer.num_train_epochs=3",
    "trainer.eval_at_start=false",
    "optim.learning_rate=2e-3",
)
ANSWERED = 24  # validation images that are answered in words
ANSWER = 200  # tokens


def fit(directory: Path, *overrides: str) -> tuple[SFTModule, CaptionDataModule]:
    """Train in `directory`; the module and its data."""
    directory.mkdir(parents=True, exist_ok=True)
    config = compose("train", [*COMMON, *overrides])
    process.set_up(config)
    config = assembly.prepare(config)
    data = assembly.build_data(config)
    module = assembly.build_module(config, assembly.build_model(config), data)
    trainer = assembly.build_trainer(config, directory, module, data, Job())
    assembly.fit(config, directory, trainer, module, data)
    return module, data


def train_base(directory: Path) -> Path:
    """The model that has learned domain a, as a directory that any run can start from."""
    module, data = fit(directory, *BASE)
    model = directory / "model"
    module.model.save_pretrained(model)
    data.encoder.processor.save_pretrained(model)
    return model


@torch.no_grad()
def losses(module: SFTModule, data: CaptionDataModule) -> dict[str, float]:
    """Cross-entropy and KL from the base, a token of the validation answers."""
    ce, kl, tokens = 0.0, 0.0, 0
    module.eval()
    for batch in data.val_dataloader():
        head = module.score(batch, module.train_teacher or module.eval_teacher)
        assert head.kl_sum is not None
        ce, kl, tokens = ce + float(head.sft_sum), kl + float(head.kl_sum), tokens + head.positions
    return {"sft_loss": ce / tokens, "kl_loss": kl / tokens}


def read(sample: Sample, text: str, data: CaptionDataModule) -> Any:
    """The objects that an answer names; of a broken one those that it spells out."""
    sizes = [(image.annotation.width, image.annotation.height) for image in sample.drawn]
    try:
        return answers.parse(text, sizes, data.prompts)[0]
    except InputError:
        return answers.readable(text, sizes, data.prompts)[0]


def f1(module: SFTModule, data: CaptionDataModule) -> dict[str, float]:
    """F1 by class of the greedy answers: `placed` where the place must fit, `named` where the word is enough."""
    samples = data.validation_samples(ANSWERED)
    texts = generate.answer(module.model, data.encoder.processor.tokenizer, samples, max_new_tokens=ANSWER)
    rows, both, all_named = [], 0, 0
    for sample, text in zip(samples, texts, strict=True):
        told, truth = read(sample, text, data), sample.drawn[0].annotation
        rows.append(counting.dense(told, truth))
        ours, theirs = (Counter(map(class_of, each.descs)) for each in (told, truth))
        both, all_named = both + (ours & theirs).total(), all_named + ours.total() + theirs.total()
    return {"placed_f1": scores(rows, resamples=0)["caption_f1"].value, "named_f1": 2 * both / all_named}


def validation(model: Path, domain: str) -> CaptionDataModule:
    """The validation drawings of a domain."""
    knobs = [f"model.model={model}", f"data.demo.domain={domain}", "data.demo.train=8"]
    return assembly.build_data(assembly.prepare(compose("train", [*COMMON, *knobs])))


def measured(module: SFTModule, model: Path) -> dict[str, dict[str, float]]:
    """Everything that is measured, by domain."""
    domains = {domain: validation(model, domain) for domain in ("a", "b")}
    return {domain: losses(module, data) | f1(module, data) for domain, data in domains.items()}


def student(task: tuple[Path, Path, float]) -> dict[str, Any]:
    """One student on domain b."""
    directory, model, beta = task
    torch.set_num_threads(1)
    rlhf = ("rlhf=gkd_forward", f"rlhf.beta={beta}") if beta else ("rlhf.eval_kl=true",)
    module, _ = fit(directory / f"beta-{beta:g}", f"model.model={model}", *STUDENT, *rlhf)
    return {"beta": beta, **measured(module, model)}


def start(model: Path) -> dict[str, Any]:
    """The base itself, measured as a student that has not been trained."""
    config = assembly.prepare(compose("train", [*COMMON, f"model.model={model}", *STUDENT, "rlhf.eval_kl=true"]))
    data = assembly.build_data(config)
    module = assembly.build_module(config, assembly.build_model(config), data)
    return {"beta": None, **measured(module, model)}


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """What is kept of a, as loss and as names, against what is gained on b; and the distance from the base."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    base, students = rows[0], rows[1:]
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4), layout="constrained")
    panels = {
        "sft_loss": "cross-entropy on a (lower: more kept)",
        "named_f1": "F1 of classes named on a (higher: more kept)",
    }
    for panel, (key, kept) in zip(axes, panels.items(), strict=False):
        panel.plot(base["b"]["sft_loss"], base["a"][key], "x", color="black", markersize=9, label="base")
        panel.plot([r["b"]["sft_loss"] for r in students], [r["a"][key] for r in students], "-", color="0.8", zorder=0)
        for row in students:
            sft, place = row["beta"] == 0, (row["b"]["sft_loss"], row["a"][key])
            panel.plot(*place, "s" if sft else "o", color="C3" if sft else "C0", markersize=8)
            name = "SFT" if sft else f"β={row['beta']:g}"
            panel.annotate(name, place, xytext=(6, 5), textcoords="offset points", fontsize=9)
        panel.set(xlabel="cross-entropy on b (lower: more gained)", ylabel=kept)
        panel.legend(frameon=False)
    for domain, colour in (("a", "C0"), ("b", "C1")):
        heights = [row[domain]["kl_loss"] for row in students]
        axes[2].plot(range(len(students)), heights, "o-", color=colour, label=f"on {domain}")
    axes[2].set_xticks(range(len(students)), ["SFT", *(f"{row['beta']:g}" for row in students[1:])])
    axes[2].set(xlabel="β", ylabel="KL from the base, nats a token", ylim=(0, None))
    axes[2].legend(frameon=False)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)


def main() -> None:
    """Train, measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/anchoring"))
    parser.add_argument("--base", type=Path, help="a base of an earlier call: its directory")
    parser.add_argument("--betas", type=float, nargs="+", default=[0.0, 0.3, 1.0, 3.0])
    parser.add_argument("--processes", type=int, default=2, help="students that train side by side")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    model = arguments.base.resolve() / "model" if arguments.base else train_base(output / "base")
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        waiting = pool.map_async(student, [(output, model, beta) for beta in arguments.betas], chunksize=1)
        rows = [start(model), *waiting.get()]
    (output / "anchoring.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print("beta    domain  sft_loss  kl_loss  named F1  placed F1")
    for row in rows:
        name = "base" if row["beta"] is None else f"{row['beta']:g}"
        for domain in ("a", "b"):
            values = (row[domain][key] for key in ("sft_loss", "kl_loss", "named_f1", "placed_f1"))
            print(f"{name:8}{domain:8}" + "".join(f"{value:9.3f}" for value in values))
    draw(rows, output / "anchoring.png")
    print(f"figure  {output / 'anchoring.png'}")


if __name__ == "__main__":
    main()
