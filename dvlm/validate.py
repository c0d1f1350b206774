"""`python -m dvlm.validate`: read every record and list the bad ones, `file:line: field: what` a line. Exit code 1."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from dvlm.config import ValidateConfig
from dvlm.config.compose import run_verb


def main() -> None:
    """The command line."""
    run_verb("validate", validate)


def validate(config: ValidateConfig) -> None:
    """Print every error of the training and validation files, then a table of them; exit code 1 when there is one."""
    from dvlm.data.files import groups, prepared
    from dvlm.data.verify import bad_lines

    data = prepared(config.data, Path(config.cache_dir))
    files = groups(data)
    by_field: Counter[str] = Counter()
    for file, group in files:
        for error in bad_lines(file, group):
            print(error)
            by_field[getattr(error, "field", "file")] += 1
    for field, count in by_field.most_common():
        print(f"{count:8}  {field}")
    names = ", ".join(str(file) for file, _ in files)
    print(f"{by_field.total()} error{'' if by_field.total() == 1 else 's'} in {names}")
    raise SystemExit(1 if by_field else 0)


if __name__ == "__main__":
    main()
