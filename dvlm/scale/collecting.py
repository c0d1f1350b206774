"""One checkpoint format for every strategy: what trains and its optimizer state, whole, in one file that rank 0 writes.

So a run may be resumed on another number of ranks and by another strategy, and nothing but plain tensors is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.strategies import Strategy
from lightning.pytorch.strategies.strategy import Strategy as Base

from dvlm.models import starts
from dvlm.scale import file
from dvlm.scale.whole import collected

if TYPE_CHECKING:
    Above = Strategy
else:
    Above = object


class Collecting(Above):
    """What FSDP2 and ZeRO have in common. Goes before the Lightning strategy among the bases of a class.

    Weights are restored before they are spread, the optimizer state after.
    """

    restore_checkpoint_after_setup = False
    lightning_restore_optimizer = True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """What trains, whole, on rank 0; {} elsewhere."""
        assert self.lightning_module is not None
        module = self.lightning_module
        training = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        return collected((training | starts.kept_buffers(module)).items(), keep=self.is_global_zero)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Rank 0 writes the file."""
        Base.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The file, mapped into memory: ranks of one node share its pages."""
        return file.read(Path(checkpoint_path), mapped=True)

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        """Into the module as it is before its weights are spread."""
        Base.load_model_state_dict(self, checkpoint, strict)
