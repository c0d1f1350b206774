"""The `guards` of the callbacks: what a run does about numbers that are not finite, and about spikes."""

from __future__ import annotations

from dataclasses import dataclass

from dvlm.config.knob import at_least, knob, one_of


@dataclass
class GuardsConfig:
    """What a run does about numbers that are not finite, and about spikes. `skip` leaves the weights alone."""

    policy: str = knob("stop", "a loss or gradient that is not finite: stop | skip (the step, up to max_skips)")
    spike_policy: str = knob("warn", "a spike of loss or kl_loss: warn | skip | stop | off")
    max_skips: int = knob(3, "skipped steps in a run; one more stops it", "steps")
    window: int = knob(
        50, "a spike is told from the median of so many steps; half of them must have been seen", "steps"
    )
    loss_factor: float = knob(5.0, "a loss above so many times the median is a spike")
    kl_factor: float = knob(10.0, "a kl_loss above so many times the median is a spike")
    floor: float = knob(1.0, "nothing below this is a spike", "nats a token")

    def __post_init__(self) -> None:
        one_of("callbacks.guards.policy", self.policy, ("stop", "skip"))
        one_of("callbacks.guards.spike_policy", self.spike_policy, ("warn", "skip", "stop", "off"))
        at_least("callbacks.guards.max_skips", self.max_skips, 0)
        at_least("callbacks.guards.window", self.window, 2)
        for name in ("loss_factor", "kl_factor"):
            at_least(f"callbacks.guards.{name}", getattr(self, name), 1.0, above=True)
        at_least("callbacks.guards.floor", self.floor, 0.0)

    @property
    def skips(self) -> bool:
        """Whether any step may be skipped."""
        return "skip" in (self.policy, self.spike_policy)
