"""One checked fact: what was measured, what is allowed, and what to do where it does not hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`measured` may be at most `bound`; None for a bound is for the record only. `advice` is for a failure."""

    name: str
    measured: float
    bound: float | None
    advice: str = ""
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the bound holds; not a number never does."""
        return self.bound is None or self.measured <= self.bound
