"""`python -m dvlm.validate`: read every record and list the bad ones, `file:line: field: what` a line. Exit code 1."""

from __future__ import annotations

from pathlib import Path

from dvlm.config import ValidateConfig
from dvlm.config.compose import run_verb


def main() -> None:
    """The command line."""
    run_verb("validate", validate)


def validate(config: ValidateConfig) -> None:
    """Print every error of the training and validation files, then their number; exit code 1 when there is one."""
    from dvlm.data.files import prepared, record_files
    from dvlm.data.verify import bad_lines

    data = prepared(config.data, Path(config.cache_dir))
    files = [Path(file) for file in record_files(data)]
    bad = 0
    for file in files:
        for error in bad_lines(file, data):
            print(error)
            bad += 1
    print(f"{bad} errors in {', '.join(map(str, files))}")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
