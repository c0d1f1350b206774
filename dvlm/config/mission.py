"""Group `mission`: what is to be inspected, as data. One file a mission; the words go into the user prompt."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dvlm.config import keys
from dvlm.config.knob import knob
from dvlm.values import InputError


@dataclass
class MissionConfig:
    """What is to be inspected, as data."""

    name: str = knob("", "its name in folders and files; empty: every mission that has a file here", text=True)
    focus: str = knob("", "what to look at: the user prompt says it", text=True)

    def __post_init__(self) -> None:
        for key in ("name", "focus"):
            if "<|" in getattr(self, key):
                raise ValueError(f"mission.{key} holds a special token ('<|'): {getattr(self, key)!r}")
        if self.focus and not self.name:
            raise ValueError("mission.focus belongs to one mission; choose mission=<option>, or give mission.name")

    def wanted(self) -> dict[str, str]:
        """The focus of each mission by name, of this one or of all with a file; raises InputError for a bad file."""
        if self.name:
            return {self.name: self.focus}
        found = [_read(option) for option in keys.options("mission")]
        return {mission.name: mission.focus for mission in found if mission.name}


def _read(option: str) -> MissionConfig:
    file = keys.CONF / "mission" / f"{option}.yaml"
    try:
        merged = OmegaConf.merge(OmegaConf.structured(MissionConfig), OmegaConf.load(file))
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise InputError(f"{file}: {error}") from error
