"""`python -m dvlm.stage_b`: a verdict of two lines a group, compared to the labels. Exit code 1 where one lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dvlm.config import StageBConfig
from dvlm.config.compose import run_verb


def main() -> None:
    """The command line."""
    run_verb("stage_b", stage_b)


def stage_b(config: StageBConfig) -> None:
    """Judge every group of `input`; what cannot be judged is named and does not stop the rest."""
    from dvlm import process
    from dvlm.data.writing import whole
    from dvlm.inference import cases, loading, verdicts
    from dvlm.values import InputError

    process.quiet_libraries()
    focus, failures, found = config.mission.wanted(), list[str](), list[verdicts.Verdict]()
    given, name = Path(config.input).resolve(), config.mission.name
    read = cases.read(given, mission=name, group_by=config.group_by, faults=failures)
    known = cases.check_focus(read, focus, failures)
    output = Path(config.output).resolve()
    with whole(output, overwrite=config.overwrite) as out:
        engine = loading.load_engine(config.checkpoint, config.base_model, config.engine)
        requests = [
            verdicts.request(
                case,
                system=config.system_prompt,
                focus=focus.get(case.mission, ""),
                max_reason_chars=config.max_reason_chars,
            )
            for case in known
        ]
        for case, reply in zip(known, engine.answer(requests), strict=True):
            try:
                found.append(verdicts.Verdict.of(case, reply))
                out.write(json.dumps(found[-1].line, ensure_ascii=False) + "\n")
            except InputError as error:
                failures.append(f"group {case.group_id} of {case.mission or 'no mission'}: {error}")
    _compare(verdicts.score(found), output)
    for failure in failures:
        print(f"failed  {failure}")
    print(f"{len(found)} of {len(read)} groups judged, in {output}")
    raise SystemExit(1 if failures else 0)


def _compare(scores: dict[str, Any] | None, output: Path) -> None:
    """Print and write what the labels say of the verdicts, where there are labels."""
    if scores is None:
        return
    from dvlm.reporting.confusion import confusion

    output.with_suffix(".json").write_text(json.dumps(scores, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    output.with_suffix(".png").write_bytes(confusion(scores["confusion"]))
    print(f"accuracy      {scores['accuracy']:.1%} of {scores['groups']} labelled groups")
    for key in ("false_passes", "false_fails"):
        print(f"{key.replace('_', ' '):13} {len(scores[key])}{''.join(f'  {name}' for name in scores[key][:10])}")


if __name__ == "__main__":
    main()
