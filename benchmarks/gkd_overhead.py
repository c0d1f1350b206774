"""What the anchor costs: a GKD-forward step against an SFT step, cold, checkpointed and from a warm teacher cache.

    python benchmarks/gkd_overhead.py

One process and thread, every variant in turn in each round, medians of CPU seconds (a busy machine adds little to
them); LoRA on the language model, frozen vision tower, forward, loss and backward of the same samples, whose lengths
are those of `packing.py` on a scale of 1 to 8. SFT uses the same fused loss. The model is a small one whose parts cost
in proportion what those of the 4B cost; both shares are printed, and beside each ratio what the count of FLOP predicts.

The naive baseline is what one writes first, and what trainers do that know neither packing nor sharing: rows padded to
the longest of 8 (the batch size that transformers' `TrainingArguments` start with), a second model as the teacher, the
vision tower in each of the two, full logits of all positions, KL and CE by autograd.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from packing import PROMPT, turns
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3VLForConditionalGeneration

from dvlm.config import ModelConfig, OptimConfig, RlhfConfig, TunerConfig
from dvlm.data.collate import collate
from dvlm.data.encode import RopeIndex
from dvlm.learning.cached import CachedTeacher
from dvlm.learning.gkd import GKDModule
from dvlm.learning.module import SFTModule
from dvlm.learning.state_store import StateStore
from dvlm.learning.teacher import AdaptersOff
from dvlm.models import forward, load, tuning
from dvlm.models.tiny import TinySpec, prepare
from dvlm.values import Batch, Sample, Turn

SPEC = TinySpec(
    hidden=256,
    intermediate=973,
    layers=16,
    heads=6,
    kv_heads=2,
    head_dim=64,
    vision_hidden=96,
    vision_intermediate=384,
    vision_depth=12,
    vision_heads=3,
    deepstack=(5,),
)
VOCABULARY = 6784
# Parameters of the 4B: layers of the language model, head, vision trunk, aligner.
LARGE = {"layers": 3_633_511_936, "head": 388_956_160, "trunk": 306_242_560, "aligner": 109_105_152}
SCALE = 8  # tokens of `packing.py` for one of here
GRIDS = {300: (12, 12), 475: (12, 20), 768: (16, 24)}  # rows and columns of patches of its photographs, scaled
ROWS, BATCHES = 8, 2  # samples of a pack or rows of a padded batch, and packs or batches of a step
GOALS = {"cold": 1.50, "cold, checkpointing": 1.37, "warm cache": 1.08}
NAIVE_GOAL = 2.0


@dataclass(frozen=True)
class Sizes:
    """What the packs are made of, and the parameters that work on it."""

    tokens: int
    patches: int
    supervised: int
    parameters: dict[str, int]

    def shares(self) -> dict[str, float]:
        """Multiplications of the matrices in one forward pass, as multiples of the language model's layers."""
        per = {"layers": self.tokens, "head": self.supervised, "trunk": self.patches, "aligner": self.patches // 4}
        work = {name: self.parameters[name] * count for name, count in per.items()}
        return {name: value / work["layers"] for name, value in work.items()}


def build_base(folder: Path) -> str:
    """The checkpoint directory of the model; only its vocabulary is not that of its tokenizer."""
    config = load.load_config(str(prepare(folder, spec=SPEC)))
    config.text_config.vocab_size = VOCABULARY
    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration(config).float().save_pretrained(folder / "model")
    return str(folder / "model")


def sample(config: Any, index: int, images: list[int], answer: int) -> Sample:
    """Images, a prompt and an answer of random words."""
    draw = torch.Generator().manual_seed(index)
    grid = torch.tensor([(1, *GRIDS[tokens]) for tokens in images])
    start, end = torch.tensor([config.vision_start_token_id]), torch.tensor([config.vision_end_token_id])
    shown = [
        torch.cat([start, torch.full((count // 4,), config.image_token_id), end]) for count in grid.prod(-1).tolist()
    ]
    ids = torch.cat([*shown, torch.randint(300, VOCABULARY, (PROMPT // SCALE + answer,), generator=draw)])
    types = (ids == config.image_token_id).long()
    return Sample(
        turn=Turn(0, index, None, ()),
        input_ids=ids,
        labels=torch.where(torch.arange(len(ids)) >= len(ids) - answer, ids, -100),
        mm_token_type_ids=types,
        rope=RopeIndex(config)(ids, types, grid),
        pixel_values=torch.randint(256, (int(grid.prod(-1).sum()), 1536), generator=draw, dtype=torch.uint8),
        image_grid_thw=grid,
        drawn=(),
        answer="",
    )


def module(base: str, *, gkd: bool, checkpointing: bool, cache: Path | None = None) -> SFTModule:
    """A LoRA student that trains with or without its teacher."""
    config = ModelConfig(model=base, torch_dtype="float32", max_model_len=4096)
    tuned = tuning.tune(load.load_model(config, packing=True), TunerConfig(), seed=0)
    if checkpointing:
        tuned.model.activation_checkpointing_enable()
    options: dict[str, Any] = {"optim_config": OptimConfig(), "steps": 1, "accumulation": 1, "seed": 0}
    if not gkd:
        return SFTModule(tuned, rlhf=RlhfConfig(), **options)
    teacher: Any = AdaptersOff(tuned.model)
    if cache:
        teacher = CachedTeacher(teacher, StateStore(cache, 10**9), "base")
    return GKDModule(tuned, rlhf=RlhfConfig(rlhf_type="gkd", beta=0.1), teacher=teacher, **options)


def collated(config: Any, *, packing: bool) -> list[Batch]:
    """The micro-batches of a step."""
    images, answers = turns(ROWS * BATCHES, 0)
    samples = [sample(config, i, list(images[i]), int(answers[i]) // SCALE) for i in range(ROWS * BATCHES)]
    return [
        collate(samples[first : first + ROWS], packing=packing, pad_id=0, supervised_in_step=1, pack=first // ROWS)
        for first in range(0, len(samples), ROWS)
    ]


def step(trained: SFTModule, batches: list[Batch]) -> None:
    """Forward, loss, backward."""
    trained.zero_grad()
    for batch in batches:
        trained.score(batch, trained.train_teacher).loss.backward()


class Naive:
    """CE + 0.1 KL on full logits of padded rows, with a second model as the teacher."""

    def __init__(self, base: str) -> None:
        config = ModelConfig(model=base, torch_dtype="float32", max_model_len=4096)
        self.teacher = load.load_model(config, packing=False)
        self.student = tuning.tune(load.load_model(config, packing=False), TunerConfig(), seed=0).model.train()

    def logits(self, model: Any, batch: Batch) -> Tensor:
        """Of every position, (B, L, V)."""
        values = forward.pixels(forward.core(model).model.visual, batch)
        return model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            mm_token_type_ids=batch.mm_token_type_ids,
            pixel_values=values,
            image_grid_thw=batch.image_grid_thw,
            use_cache=False,
        ).logits

    def step(self, batches: list[Batch]) -> None:
        """Forward, loss, backward."""
        self.student.zero_grad()
        for batch in batches:
            self.loss(batch).backward()

    def loss(self, batch: Batch) -> Tensor:
        """CE + 0.1 KL, summed over the supervised positions."""
        with torch.no_grad():
            theirs = self.logits(self.teacher, batch)[:, :-1].float().log_softmax(-1)
        mine = self.logits(self.student, batch)[:, :-1].float()
        targets = batch.labels[:, 1:]
        ce = F.cross_entropy(mine.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
        kl = F.kl_div(mine.log_softmax(-1), theirs, reduction="none", log_target=True).sum(-1)
        return ce + 0.1 * kl[targets != -100].sum()


def flops(call: Callable[[], None]) -> int:
    """What torch counts of one step."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def medians(variants: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of each variant over rounds in which each runs once, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, call in variants.items():
            begin = time.process_time()
            call()
            if turn:
                seconds[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def sizes(base: str, batches: list[Batch]) -> Sizes:
    """Of the model and the packs that are measured."""
    model = load.load_model(ModelConfig(model=base, torch_dtype="float32", max_model_len=4096), packing=True)

    def count(part: Any) -> int:
        return sum(parameter.numel() for parameter in part.parameters())

    visual = model.model.visual
    aligner = count(visual.merger) + count(visual.deepstack_merger_list)
    parts = {
        "layers": count(model.model.language_model.layers),
        "head": count(model.lm_head),
        "trunk": count(visual) - aligner,
        "aligner": aligner,
    }
    patches = sum(int(batch.image_grid_thw.prod(-1).sum()) for batch in batches if batch.image_grid_thw is not None)
    supervised = sum(int((batch.labels != -100).sum()) for batch in batches)
    return Sizes(sum(batch.input_ids.numel() for batch in batches), patches, supervised, parts)


def main() -> None:
    """Measure and print; exit with 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        base = build_base(Path(folder))
        config = load.load_config(base)
        packed, padded = (collated(config, packing=packing) for packing in (True, False))
        naive = Naive(base)
        modules = {
            "sft": module(base, gkd=False, checkpointing=False),
            "cold": module(base, gkd=True, checkpointing=False),
            "warm cache": module(base, gkd=True, checkpointing=False, cache=Path(folder) / "cache"),
            "sft, checkpointing": module(base, gkd=False, checkpointing=True),
            "cold, checkpointing": module(base, gkd=True, checkpointing=True),
        }
        calls: dict[str, Callable[[], None]] = {
            name: lambda trained=trained: step(trained, packed)  # type: ignore[misc]
            for name, trained in modules.items()
        }
        calls["naive"] = lambda: naive.step(padded)
        calls["warm cache"]()  # fills it
        seconds, counted = medians(calls, arguments.rounds), {name: flops(call) for name, call in calls.items()}
        here = sizes(base, packed)
    large = replace(here, parameters=LARGE)
    slots = sum(batch.input_ids.numel() for batch in padded)
    print(
        f"packs: {here.tokens} tokens, {here.supervised} supervised, {here.patches} patches; padded rows: {slots} slots"
    )
    print("multiplications of a forward pass, language model's layers = 1:")
    for name, sizes_ in (("here", here), ("4B", large)):
        print(f"  {name:5}" + "  ".join(f"{part} {share:.3f}" for part, share in sizes_.shares().items()))
    reached = []
    for name, goal in GOALS.items():
        against = "sft, checkpointing" if "checkpointing" in name else "sft"
        ratio, expected = seconds[name] / seconds[against], counted[name] / counted[against]
        reached.append(ratio <= goal)
        print(f"{name:20} {seconds[name]:.3f} s / {against:18} {seconds[against]:.3f} s = {ratio:.3f} "
              f"(FLOP {expected:.3f}; goal {goal})")  # fmt: skip
    for name in ("cold", "warm cache"):
        ratio, expected = seconds["naive"] / seconds[name], counted["naive"] / counted[name]
        print(f"{'naive':20} {seconds['naive']:.3f} s / {name:18} {seconds[name]:.3f} s = {ratio:.3f} "
              f"(FLOP {expected:.3f}; goal {NAIVE_GOAL})")  # fmt: skip
    reached.append(seconds["naive"] >= NAIVE_GOAL * seconds["cold"])
    raise SystemExit(0 if all(reached) else 1)


if __name__ == "__main__":
    main()
