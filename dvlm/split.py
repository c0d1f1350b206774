"""`python -m dvlm.split`: one file of records becomes train.jsonl and val.jsonl, groups of images kept together."""

from __future__ import annotations

from pathlib import Path

from dvlm.config import SplitConfig
from dvlm.config.compose import run_verb
from dvlm.values import InputError


def main() -> None:
    """The command line."""
    run_verb("split", split)


def split(config: SplitConfig) -> None:
    """Write both files, then print the records and groups of each."""
    import numpy as np

    from dvlm.data.splitting import moved, split
    from dvlm.data.writing import whole

    source, folder = Path(config.input), Path(config.output)
    files = {name: folder / f"{name}.jsonl" for name in ("train", "val")}
    for file in files.values():
        if file.exists() and source.exists() and file.samefile(source):
            raise InputError(f"{source} is the input and would be replaced; choose another folder: output=<folder>")
    with (
        whole(files["train"], overwrite=config.overwrite) as train,
        whole(files["val"], overwrite=config.overwrite) as val,
    ):
        sides = split(config)
        for line, to_val in zip(moved(source, folder.absolute()), sides.val, strict=True):
            (val if to_val else train).write(line)
    for name, side in (("train", ~sides.val), ("val", sides.val)):
        groups = len(np.unique(sides.groups[side]))
        print(f"{files[name]}  records {side.sum()} ({side.mean():.1%})  groups {groups}")


if __name__ == "__main__":
    main()
