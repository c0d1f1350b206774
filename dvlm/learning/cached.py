"""A teacher that is asked once for each sample: its hidden states are kept on disk, for every run that shares them.

A sample's states depend on the sample alone, not on those that share its pack, so that runs with other packs find them
too. One miss in a batch runs the teacher on the whole of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dvlm.learning.state_store import StateStore
from dvlm.learning.teacher import AdaptersOff, FrozenModel
from dvlm.models import forward, load
from dvlm.models.prefix import Begun
from dvlm.values import Batch

VERSION = 1  # part of every key: raise it when the same teacher would be asked in another way


class CachedTeacher:
    """`teacher` with its states kept in `store` under `identity`.

    `agree` tells all ranks whether one of them misses: with sharded weights they run the teacher together or not at
    all. Without it each rank decides for itself.
    """

    def __init__(
        self,
        teacher: AdaptersOff | FrozenModel,
        store: StateStore,
        identity: str,
        agree: Callable[[bool], bool] | None = None,
    ) -> None:
        self.teacher, self.store, self.identity, self.agree = teacher, store, identity, agree
        self.shares = teacher.shares
        self._hits = self._misses = 0

    def head(self, device: torch.device) -> Tensor | None:
        """The head of the teacher itself."""
        return self.teacher.head(device)

    def states(self, batch: Batch, mask: Tensor, begun: Begun) -> Tensor:
        """Hidden states (S, Ht) of the teacher at `mask` (B, L), read or computed (and then written)."""
        counts = forward.supervised_of_samples(batch, mask)
        keys = [f"{self.identity}/{digest}" for digest in batch.digests]
        wanted = [(key, count) for key, count in zip(keys, counts, strict=bool(keys)) if count]
        found = [self.store.read(key, count) for key, count in wanted]
        missing = [each is None for each in found]
        self._hits, self._misses = self._hits + missing.count(False), self._misses + missing.count(True)
        complete = bool(found) and not any(missing)
        if self.agree(complete) if self.agree else complete:
            return torch.cat([each for each in found if each is not None]).to(mask.device)
        states = self.teacher.states(batch, mask, begun)
        parts = states.split([count for _, count in wanted]) if wanted else ()
        for (key, _), part, misses in zip(wanted, parts, missing, strict=True):
            if misses:
                self.store.write(key, part)
        return states

    def counts(self) -> Tensor:
        """Samples found and samples computed since the last call, (2,)."""
        counts, self._hits, self._misses = torch.tensor([self._hits, self._misses]), 0, 0
        return counts


def identity(model: Any, path: str) -> str:
    """What hidden states depend on besides the sample: weights, dtype and attention of the model read from `path`."""
    text = forward.core(model).config.text_config
    weights = load.fingerprint(path) or f"{path}@{forward.core(model).config._commit_hash}".replace("/", "--")
    dtype = str(forward.core(model).lm_head.weight.dtype).removeprefix("torch.")
    return f"v{VERSION}-{weights}-{dtype}-{text._attn_implementation}"
