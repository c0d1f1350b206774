"""docs/migration.md has every old key, with the place that the code names for it."""

from __future__ import annotations

from pathlib import Path

from dvlm.config import keys
from dvlm.config.renamed import RENAMED
from dvlm.config.roots import ROOTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migration.md"


def test_the_page_has_every_old_key():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [f"| `{old}` | {new if ' ' in new else f'`{new}`'} |" for old, new in RENAMED.items()]
    assert not [row for row in rows if row not in lines]


def test_new_names_exist():
    known = {key for key, _ in keys.knob_paths(ROOTS["train"])} | set(keys.groups()) | {"hydra.run.dir"}
    known |= {key.rpartition(".")[0] for key in known}
    assert not [new for new in RENAMED.values() if " " not in new and new not in known]
