"""`python -m dvlm.dashboard`: the W&B workspace of a project, saved there, or written as JSON where there is no key."""

from __future__ import annotations

import json
from pathlib import Path

from dvlm.config import DashboardConfig
from dvlm.config.compose import run_verb


def main() -> None:
    """The command line."""
    run_verb("dashboard", dashboard)


def dashboard(config: DashboardConfig) -> None:
    """Build the workspace; save it with a key for W&B, else write it to `output`."""
    import wandb

    from dvlm.data import writing
    from dvlm.reporting.workspace import as_json, workspace

    online = config.mode == "online" or (config.mode == "auto" and wandb.login(prompt=False))
    entity = config.entity or (wandb.Api().default_entity if online else None) or ""
    made = workspace(entity, config.project, config.name)
    if online:
        print(f"workspace  {made.save().url}")
        return
    with writing.whole(Path(config.output), overwrite=True) as handle:
        handle.write(json.dumps(as_json(made), ensure_ascii=False, indent=1) + "\n")
    print(f"workspace  {config.output} (offline: with a key, `wandb login`, the same command saves it in the project)")


if __name__ == "__main__":
    main()
