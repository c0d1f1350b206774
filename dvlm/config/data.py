"""Group `data`: records, pairing, prompts, packing, loading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dvlm.config.knob import at_least, check_paths, knob, one_of, paths, within

NORMS = ("none", "norm100", "norm1000")
DEMO = "demo"  # stands for a file where the demo set is made before the run


@dataclass
class DemoConfig:
    """The generated inspection set; `data=demo` makes it before the run."""

    train: int = knob(200, "training records")
    val: int = knob(40, "validation records")
    seed: int = knob(17, "seed of the drawings")
    domain: str = knob("a", "a | b: two sets of objects, for forgetting experiments")

    def __post_init__(self) -> None:
        at_least("data.demo.train", self.train, 1)
        at_least("data.demo.val", self.val, 1)
        at_least("data.demo.seed", self.seed, 0)
        one_of("data.demo.domain", self.domain, ("a", "b"))


@dataclass
class SourceConfig:
    """One of several training files; what is null is taken from the `data` group."""

    name: str = knob("???", "the name in metrics")
    train_jsonl: str = knob("???", "training records, or dialogues in messages form", path=True)
    weight: float = knob(1.0, "turns of an epoch, as a multiple of the file's own")
    summary_ratio: float | None = knob(None, "share of turns that ask for summaries", "probability")
    user_prompt: str | None = knob(None, "text after the images of a user message")
    system_prompt_dense: str | None = knob(None, "system prompt of dense turns")
    system_prompt_summary: str | None = knob(None, "system prompt of summary turns")

    def __post_init__(self) -> None:
        at_least(f"data.sources[{self.name}].weight", self.weight, 0.0, above=True)
        within(f"data.sources[{self.name}].summary_ratio", self.summary_ratio, 0.0, 1.0)


@dataclass
class DataConfig:
    """Records, pairing, prompts, packing, loading."""

    train_jsonl: str | None = knob(None, "training records, or dialogues in messages form", path=True)
    val_jsonl: str | None = knob(None, "validation records; null trains without validation", path=True)
    sources: list[SourceConfig] = knob([], "several training files, each named and weighted, instead of train_jsonl")
    demo: DemoConfig | None = knob(None, "generate the demo set and use it in place of train_jsonl and val_jsonl")
    images_per_user_turn: int = knob(2, "records shown in one user message", "records")
    summary_ratio: float = knob(0.0, "share of turns that ask for summaries instead of objects", "probability")
    emit_norm: str = knob("norm1000", "coordinates in answers: none (pixels) | norm100 | norm1000")
    object_order: str = knob("file", "objects in answers: file | top_left (top to bottom, then left to right)")
    user_prompt: str = knob("请描述图片中的所有物体", "text after the images of a user message", text=True)
    system_prompt_dense: str = knob(
        "你是图像检测助手。请用JSON列出每张图片中的物体及其位置。", "system prompt of dense turns", text=True
    )
    system_prompt_summary: str = knob(
        "你是图像检测助手。请用JSON给出每张图片的一行摘要。", "system prompt of summary turns", text=True
    )
    packing: bool = knob(True, "lay samples end to end up to global_max_length; false pads them side by side")
    samples_per_pack: int = knob(1, "rows of a padded micro-batch; with packing the length decides", "samples")
    packs_per_step: int = knob(4, "packs of one optimizer step over all ranks; accumulation follows", "packs")
    preprocessors: list[str] = knob([], "functions Record -> Record | None, as package.module:function; None drops")
    message_builder: str = knob("dvlm.data.messages:build", "function (turn, drawn, prompts) -> messages")
    sample_limit: int | None = knob(None, "use only the first records of each file", "records")
    truncation: str = knob("raise", "a sample above global_max_length: raise | drop (counted and named)")
    verify_images: str = knob("auto", "before training: header (size only) | full (decode) | auto (full up to 2,000)")
    on_bad_record: str = knob(
        "error", "a record that a run cannot use: error (stop before training) | skip (leave it out; it is listed)"
    )
    max_bad_records: float = knob(
        0.01, "bad records of each file that skip leaves out at most: below 1 a share of the file, else a number"
    )
    image_root: Any = knob(
        None, "folder, or list of folders, that all images must lie in, links followed; null: anywhere", many=True
    )
    min_pixels: int | None = knob(None, "smallest image after resizing; null: the processor's own", "pixels")
    max_pixels: int | None = knob(None, "largest image after resizing; null: the processor's own", "pixels")
    dataloader_num_workers: int = knob(0, "worker processes that read, augment and encode", "processes")
    dataloader_pin_memory: bool = knob(False, "pinned host memory, for copies to a GPU")

    def __post_init__(self) -> None:
        check_paths("data.", self)
        one_of("data.emit_norm", self.emit_norm, NORMS)
        one_of("data.object_order", self.object_order, ("file", "top_left"))
        one_of("data.truncation", self.truncation, ("raise", "drop"))
        one_of("data.verify_images", self.verify_images, ("header", "full", "auto"))
        within("data.summary_ratio", self.summary_ratio, 0.0, 1.0)
        for name in ("images_per_user_turn", "samples_per_pack", "packs_per_step", "sample_limit"):
            at_least(f"data.{name}", getattr(self, name), 1)
        at_least("data.dataloader_num_workers", self.dataloader_num_workers, 0)
        at_least("data.min_pixels", self.min_pixels, 1)
        at_least("data.max_pixels", self.max_pixels, self.min_pixels or 1)
        one_of("data.on_bad_record", self.on_bad_record, ("error", "skip"))
        at_least("data.max_bad_records", self.max_bad_records, 0)
        paths("data.image_root", self.image_root)
        self._check_demo()
        if not (self.train_jsonl or self.sources or self.val_jsonl):
            raise ValueError("data has neither train_jsonl nor sources; give data.train_jsonl=<file>")
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"data.sources has the names {names}, expected each once")
        if self.packing and self.samples_per_pack != 1:
            raise ValueError(
                f"data.samples_per_pack is {self.samples_per_pack}, but with packing the length decides; "
                "set data.packing=false for padded batches"
            )

    @property
    def image_roots(self) -> list[str]:
        """The folders of `image_root`; none confine nothing."""
        return paths("data.image_root", self.image_root)

    def _check_demo(self) -> None:
        for name in ("train_jsonl", "val_jsonl"):
            file = getattr(self, name)
            if self.demo is not None and file not in (DEMO, None):
                raise ValueError(f"data.{name} is '{file}', but data=demo makes its own records; add data=jsonl")
