"""`python -m dvlm.convert coco`: COCO or LVIS detection annotations become records, one JSONL line an image."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from dvlm.config import ConvertConfig
from dvlm.config.compose import run_verb
from dvlm.values import InputError


def main() -> None:
    """The command line, whose first word may name the source: `coco` stands for `source=coco`."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first and "=" not in first and not first.startswith("-"):
        sys.argv[1] = f"source={first}"
    run_verb("convert", convert)


def convert(config: ConvertConfig) -> None:
    """Write the records, then print how many there are and what was left out."""
    from dvlm.data.coco import conversions
    from dvlm.data.writing import whole

    output = Path(config.output)
    kinds: Counter[str] = Counter()
    events: Counter[str] = Counter()
    records = 0
    with whole(output, overwrite=config.overwrite) as file:
        for converted in conversions(config):
            events += converted.events
            if converted.record is not None:
                file.write(json.dumps(converted.record, ensure_ascii=False) + "\n")
                kinds.update(next(iter(entry)) for entry in converted.record["objects"])
                records += 1
        if not records:
            raise InputError(f"{config.annotations}: no image is left to write; check the file and keep_empty")
    shapes = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"
    print(f"{output}\nrecords  {records}\nobjects  {kinds.total()} ({shapes})")
    for event, count in sorted(events.items()):
        print(f"{event}: {count}")


if __name__ == "__main__":
    main()
