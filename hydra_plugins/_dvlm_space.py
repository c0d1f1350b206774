"""A search space written as sweeps of Hydra: `choice(...)`, `range(...)`, `interval(...)`, with `tag(log, ...)`."""

from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from dvlm.values import InputError


def split(overrides: Iterable[Override]) -> tuple[list[str], dict[str, Any]]:
    """What every trial has in common, as overrides, and the distributions of what is sampled, by key.

    Of a key that is given twice the last one counts.
    """
    last = {override.get_key_element(): override for override in overrides}
    fixed = [override.input_line for override in last.values() if not override.is_sweep_override()]
    return fixed, {key: distribution(each) for key, each in last.items() if each.is_sweep_override()}


def distribution(override: Override) -> Any:
    """Optuna's distribution for a sweep. Values of a choice stay the text that was written."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    tags = getattr(value, "tags", set())
    if unknown := tags - {"log"}:
        raise InputError(
            f"'{override.input_line}': the tag {', '.join(sorted(unknown))} means nothing here; known: log"
        )
    try:
        if isinstance(value, IntervalSweep):
            kind = IntDistribution if isinstance(value.start, int) and isinstance(value.end, int) else FloatDistribution
            return kind(value.start, value.end, log="log" in tags)
        if isinstance(value, RangeSweep) and not tags:
            values = list(value.range())
            whole = all(isinstance(each, int) for each in values)
            return (IntDistribution if whole else FloatDistribution)(values[0], values[-1], step=value.step)
    except (ValueError, IndexError) as error:
        raise InputError(f"'{override.input_line}' is no search space: {error}") from error
    if tags:
        raise InputError(f"'{override.input_line}': tag(log, ...) is for interval(...)")
    return CategoricalDistribution(list(dict.fromkeys(map(str, override.sweep_string_iterator()))))


def example(space: dict[str, Any]) -> dict[str, Any]:
    """One point of a space."""
    return {key: each.choices[0] if hasattr(each, "choices") else each.low for key, each in space.items()}


def written(params: dict[str, Any]) -> list[str]:
    """The parameters of a trial as overrides: numbers in full, choices as they were written."""
    return [f"{key}={value if isinstance(value, str) else repr(value)}" for key, value in params.items()]
