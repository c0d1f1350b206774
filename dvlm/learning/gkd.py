"""The LightningModule of generalised knowledge distillation, forward-only: cross-entropy plus a pull to the teacher."""

from __future__ import annotations

from typing import Any

from dvlm.learning.module import SFTModule
from dvlm.learning.teacher import Teacher


class GKDModule(SFTModule):
    """`sft_alpha` x CE + `beta` x D(teacher, student) on the supervised tokens of the data's answers."""

    def __init__(self, *args: Any, teacher: Teacher, **options: Any) -> None:
        super().__init__(*args, **options)
        self.teacher = teacher

    @property
    def train_teacher(self) -> Teacher:
        """Whom training steps compare with."""
        return self.teacher
