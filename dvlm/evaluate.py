"""`python -m dvlm.evaluate`: losses and scores of a checkpoint on validation records, as JSON and as a page."""

from __future__ import annotations

from pathlib import Path

from dvlm.config import EvaluateConfig
from dvlm.config.compose import run_verb


def main() -> None:
    """The command line."""
    run_verb("evaluate", evaluate)


def evaluate(config: EvaluateConfig) -> None:
    """Write `evaluation.json`, `answers.jsonl` and `index.html` into `output`, and print the scores."""
    from dataclasses import replace

    from dvlm import process
    from dvlm.data.files import prepared
    from dvlm.evaluation import run
    from dvlm.evaluation.page import page
    from dvlm.evaluation.result import FILE, Result
    from dvlm.run import write_bad
    from dvlm.values import InputError

    process.quiet_libraries()
    folder = Path(config.output).resolve()
    if (folder / FILE).exists() and not config.overwrite:
        raise InputError(f"output: {folder} holds an evaluation; choose another folder, or set overwrite=true")
    other = Result.load(Path(config.against)) if config.against else None
    config = replace(config, data=prepared(config.data, Path(config.cache_dir)))
    engine, line = run.build(config)
    result, found = run.evaluate(config, engine, line)
    folder.mkdir(parents=True, exist_ok=True)
    write_bad(folder, line.bad)
    run.write_answers(found, folder / "answers.jsonl")
    (folder / "index.html").write_text(page(result, other, run.worst(found, config.worst)), encoding="utf-8")
    result.save(folder)
    for name, value in result.losses.items():
        print(f"{name:28}{value:10.4f}")
    for decoding, scores in result.scores.items():
        for name, score in scores.items():
            print(f"{decoding:12}{name:28}{score.value:8.4f}  {score.low:.4f} to {score.high:.4f}")
    print(f"page        {folder / 'index.html'}")


if __name__ == "__main__":
    main()
