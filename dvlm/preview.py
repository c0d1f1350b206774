"""`python -m dvlm.preview`: one HTML page of what training will see. Of the model, only its processor is loaded."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dvlm.config import PreviewConfig
from dvlm.config.compose import run_verb
from dvlm.values import InputError

if TYPE_CHECKING:
    from dvlm.data.mixture import Source
    from dvlm.gallery.survey import Survey

PICTURE_BYTES = 7_000_000  # of all pictures together: as text they take a third more, and the page stays below 10 MB


def main() -> None:
    """The command line."""
    run_verb("preview", preview)


def preview(config: PreviewConfig) -> None:
    """Write the page to `output`, and print where it is with the key figures."""
    # Imported here: a typo in the configuration is reported before torch is loaded.
    from dvlm import process
    from dvlm.data import files, lengths, writing
    from dvlm.gallery.page import key_figures, page
    from dvlm.gallery.survey import survey
    from dvlm.gallery.turns import card

    # Lengths are measured in forked processes: a tokenizer that has used threads before would warn, and then use none.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    target, cache = Path(config.output), Path(config.cache_dir).resolve()
    if target.is_dir():
        raise InputError(f"output: {target} is a directory; give a file, such as output={target / 'preview.html'}")
    process.set_up(config)
    config = replace(config, data=files.prepared(config.data, cache))
    line = build_line(config)
    measured = lengths.measure(line, config.epoch + 1, cache)[config.epoch]
    found = survey(line, config.epoch, measured, config.data, config.global_max_length)
    warning = too_long(line, found, config)
    shown = chosen(line.turns, config.samples, spread=bool(config.data.sources))
    pictures = 2 * sum(len(line.turn(config.epoch, index).images) for index in shown)
    cards = (card(line, found, config.epoch, index, PICTURE_BYTES // max(1, pictures)) for index in shown)
    text = page(f"Preview of epoch {config.epoch}", origin(config), warning, found, cards)
    with writing.whole(target, overwrite=True) as handle:
        handle.write(text)
    print(f"{'page':24}{target} ({target.stat().st_size / 1e6:.1f} MB)")
    for name, value in key_figures(found):
        print(f"{name:24}{value}")
    if warning:
        print(warning)


def build_line(config: PreviewConfig) -> Source:
    """The line of the training records, checked; raises InputError at the first bad one."""
    from dvlm.augmentation.pipeline import Pipeline
    from dvlm.data import source
    from dvlm.data.encode import Encoder
    from dvlm.models import load

    model = load.resolve(config.model, Path(config.cache_dir)).model
    processor = load.load_processor(model, config.data.min_pixels, config.data.max_pixels)
    return source.training(
        config.data,
        augmentation=Pipeline.build(config.augmentation.as_mappings(), config.augmentation.bypass_prob),
        encoder=Encoder(processor, load.load_config(model)),
        seed=config.seed,
    )


def chosen(turns: int, samples: int, *, spread: bool) -> list[int]:
    """The first `samples` turns; with `spread`, as many from all over the epoch: there one source follows the other."""
    count = min(samples, turns)
    return [index * turns // count for index in range(count)] if spread else list(range(count))


def too_long(line: Source, found: Survey, config: PreviewConfig) -> str:
    """What becomes of turns above `global_max_length`, or an empty text where there are none."""
    if not len(found.too_long):
        return ""
    first = int(found.too_long[0])
    fate = "a run stops there (data.truncation=raise)" if config.data.truncation == "raise" else "they are dropped"
    return (
        f"{len(found.too_long)} of {line.turns} turns are longer than global_max_length {found.max_length}; {fate}. "
        f"The first: {line.turn(config.epoch, first).place}, with {found.lengths[first, 0]} tokens. "
        "Raise global_max_length, or lower data.max_pixels or data.images_per_user_turn."
    )


def origin(config: PreviewConfig) -> list[tuple[str, str]]:
    """What the page was made from, as names and values."""
    data, augmentation = config.data, config.augmentation
    files = [f"{each.name}: {each.train_jsonl}" for each in data.sources] or [str(data.train_jsonl)]
    ops = [" ".join([op.name, *(f"{key}={value}" for key, value in op.params.items())]) for op in augmentation.ops]
    return [
        ("Records", "; ".join(files)),
        ("Processor", config.model.model),
        ("Records a turn", str(data.images_per_user_turn)),
        ("Coordinates", f"{data.emit_norm}, objects in order {data.object_order}"),
        ("Ops", "; ".join(ops) or "none"),
        ("Clean turns", f"{augmentation.bypass_prob:.0%}"),
        ("Seed", str(config.seed)),
    ]


if __name__ == "__main__":
    main()
