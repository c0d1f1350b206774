"""All ranks of a run have the same configuration, or none of them trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch.distributed as dist

from dvlm.sweeps import identity
from dvlm.values import InputError


class SameConfig(L.Callback):
    """Raises InputError on every rank where one of them has other values in `config`, and names these."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = identity.flat(config)

    def setup(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        """Compare, before anything is trained or written."""
        if trainer.world_size == 1:
            return
        everyone: list[Any] = [None] * trainer.world_size
        dist.all_gather_object(everyone, self.config)
        for rank, theirs in enumerate(everyone):
            if found := identity.differences(everyone[0], theirs):
                raise InputError(f"ranks 0 and {rank} of one run were given other values: {'; '.join(found)}")
