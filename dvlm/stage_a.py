"""`python -m dvlm.stage_a`: one line of summary an image, a JSONL a mission. Exit code 1 where an image has none."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from dvlm.config import StageAConfig
from dvlm.config.compose import run_verb

IRRELEVANT = ("batch_size", "workers")  # of the engine: answers do not depend on them


def main() -> None:
    """The command line."""
    run_verb("stage_a", stage_a)


def stage_a(config: StageAConfig) -> None:
    """Ask for every image that has no answer yet, then write what is complete; failures are named at the end."""
    from dvlm import process
    from dvlm.config.knob import paths
    from dvlm.data.roots import existing
    from dvlm.inference import summaries, tree
    from dvlm.inference.inputs import naming
    from dvlm.values import printable

    process.quiet_libraries()
    found = tree.read(Path(config.input).resolve(), config.mission.wanted(), config.mission.name)
    found = found.confined(existing("image_root", paths("image_root", config.image_root)))
    own = found.shard(*config.part) if config.part else found
    failures = list(own.faults)
    if config.merge:
        stages = summaries.stages(own, Path(config.output).resolve(), lambda mission: None)
        asked: list[dict[str, str]] = [{} for _ in stages]
    else:
        stages, asked = _ask(config, own)
    for stage, why in zip(stages, asked, strict=True):
        if config.part:
            failures += [naming(found.root / name, reason) for name, reason in why.items()]
            continue
        written, faults = stage.write(why)
        failures += faults
        print(f"{written.groups} of {written.of} {'groups' if stage.mission.name else 'images'} in {written.file}")
    for failure in failures:
        print(f"failed  {printable(failure)}")
    raise SystemExit(1 if failures else 0)


def _ask(config: StageAConfig, own: Any) -> tuple[list[Any], list[dict[str, str]]]:
    """The stages of `own` groups, and why images of each have no answer."""
    from dvlm.inference import loading, summaries
    from dvlm.inference.source import resolve

    assert config.checkpoint is not None
    part = f"{config.part[0]}-of-{config.part[1]}" if config.part else ""
    source = resolve(config.checkpoint, config.base_model)
    engine = loading.load_engine(config.checkpoint, config.base_model, config.engine)
    before = engine.prompts.user if config.user_prompt is None else config.user_prompt
    settings = {key: value for key, value in asdict(config.engine).items() if key not in IRRELEVANT}

    def user(mission: Any) -> str:
        return "\n".join(filter(None, (before, mission.focus)))

    def about(mission: Any) -> dict[str, Any]:
        return {
            "checkpoint": str(source.directory),
            "base_model": source.base,
            "system_prompt": engine.prompts.system_summary,
            "user_prompt": user(mission),
            "images_per_turn": config.images_per_turn,
            "engine": settings,
        }

    stages = summaries.stages(own, Path(config.output).resolve(), about)
    for stage in stages:
        stage.clear(part, overwrite=config.overwrite)
        stage.known()
    return stages, [stage.ask(engine, user(stage.mission), part, config.images_per_turn) for stage in stages]


if __name__ == "__main__":
    main()
