"""The roots of the data tools: `convert` makes records of public annotation files, `split` halves a file of them."""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter

from dvlm.config.knob import check_paths, knob, one_of, pattern_with_group


@dataclass
class ConvertConfig:
    """`python -m dvlm.convert coco`: COCO or LVIS detection annotations become records."""

    source: str = knob("coco", "form of the annotations: coco | lvis; also the first word of the command")
    annotations: str = knob("???", "the JSON file of images, annotations and categories", path=True)
    images: str | None = knob(None, "folder of the images; null: the folder of the annotations", path=True)
    output: str = knob("???", "the JSONL file to write", path=True)
    polygons: str = knob("bbox", "geometry of an object: bbox | quad (from its polygon, the box where it has none)")
    desc: str = knob("{name}", "description of an object, with the fields of its category in braces", text=True)
    summary: bool = knob(False, "give each record a summary, the counts of its categories: name×n/name×n")
    empty_summary: str = knob("无目标", "summary of an image without objects", text=True)
    keep_empty: bool = knob(True, "keep images without objects, as records with objects []")
    outside: str = knob("error", "a shape that reaches more than 1 pixel beyond its image: error | clip")
    on_bad_annotation: str = knob("error", "an annotation that cannot be read: error | skip (counted)")
    overwrite: bool = knob(False, "replace an existing output file")

    def __post_init__(self) -> None:
        one_of("source", self.source, ("coco", "lvis"))
        one_of("polygons", self.polygons, ("bbox", "quad"))
        one_of("outside", self.outside, ("error", "clip"))
        one_of("on_bad_annotation", self.on_bad_annotation, ("error", "skip"))
        for name in ("desc", "empty_summary"):
            text = getattr(self, name)
            if not text.strip() or "<|" in text:
                raise ValueError(f"{name} is '{text}', expected a text that is not blank, without '<|'")
        _check_template(self.desc)
        check_paths("", self)


@dataclass
class SplitConfig:
    """`python -m dvlm.split`: one file of records becomes train.jsonl and val.jsonl, groups of images kept together."""

    input: str = knob("???", "the JSONL file to split", path=True)
    output: str = knob("???", "folder of train.jsonl and val.jsonl", path=True)
    val: float = knob(0.1, "records for validation; met as closely as whole groups allow", "share")
    group_by: str | None = knob(
        None,
        "what stays on one side: null (an image) | folder (the images of a folder) | "
        r"a pattern such as '(\d+)_' searched in the image path (images whose brackets catch the same)",
        text=True,
    )
    seed: int = knob(17, "seed of the choice of groups")
    overwrite: bool = knob(False, "replace existing output files")

    def __post_init__(self) -> None:
        if not 0 < self.val < 1:
            raise ValueError(f"val is {self.val}, expected a share above 0 and below 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected at least 0")
        if self.group_by not in (None, "folder"):
            pattern_with_group("group_by", str(self.group_by), "folder, null")
        check_paths("", self)


def _check_template(template: str) -> None:
    """Raise ValueError unless the braces of `template` hold names alone."""
    try:
        formats = [(spec, conversion) for _, _, spec, conversion in Formatter().parse(template)]
    except ValueError as error:
        raise ValueError(f"desc is '{template}': {error}; expected for example {{name}}") from error
    if any(spec or conversion for spec, conversion in formats):
        raise ValueError(f"desc is '{template}', expected names alone in its braces, for example {{name}}")
