"""`python -m dvlm.caption`: images in, a JSONL of what is in them out. Exit code 1 where an image has no answer."""

from __future__ import annotations

import json
from pathlib import Path

from dvlm.config import CaptionConfig
from dvlm.config.compose import run_verb


def main() -> None:
    """The command line."""
    run_verb("caption", caption)


def caption(config: CaptionConfig) -> None:
    """Answer every image of `input`; what cannot be answered is named and does not stop the rest."""
    from dataclasses import replace

    from dvlm import process
    from dvlm.config.knob import paths
    from dvlm.data.roots import existing
    from dvlm.data.writing import whole
    from dvlm.inference import captions, loading
    from dvlm.inference.asking import Request
    from dvlm.inference.inputs import batched, images_of, naming
    from dvlm.values import Mode, printable

    process.quiet_libraries()
    roots = existing("image_root", paths("image_root", config.image_root))
    found = images_of(Path(config.input).resolve(), roots)
    settings = replace(config.engine, batch_size=1) if config.stream else config.engine
    groups = batched(found, config.images_per_turn)
    requests = [Request(images=group, mode=Mode(config.mode), user=config.user_prompt) for group in groups]
    failed, done = [], 0
    with whole(Path(config.output).resolve(), overwrite=config.overwrite) as out:
        engine = loading.load_engine(config.checkpoint, config.base_model, settings)
        for reply in engine.answer(requests, on_text=_print if config.stream else None):
            if config.stream:
                print()
            for line in captions.lines(reply, engine.prompts):
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                failed += [naming(line["images"][0], line["error"])] if "error" in line else []
            if config.pictures:
                captions.draw(reply, engine.prompts, Path(config.pictures).resolve(), done + 1)
            done += len(reply.request.images)
    for failure in failed:
        print(f"failed  {printable(failure)}")
    print(f"{done - len(failed)} of {done} images answered, in {config.output}")
    raise SystemExit(1 if failed else 0)


def _print(text: str) -> None:
    print(text, end="", flush=True)


if __name__ == "__main__":
    main()
