"""Who writes the answers: transformers in this process, or vLLM (`vllm_backend.py`) behind the same call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from peft import PeftModel
from torch import Tensor
from transformers import LogitsProcessor

from dvlm.inference.asking import Asked
from dvlm.inference.structure import Structure
from dvlm.models import generate
from dvlm.models.forward import core
from dvlm.models.generate import Sampling
from dvlm.values import Completion, InputError


@dataclass(frozen=True)
class Order:
    """One answer to write: what is asked, the grammar that holds it (None: free), and its random numbers."""

    asked: Asked
    grammar: str | None
    draw: np.random.Generator


class Backend(Protocol):
    """Writes a batch of answers."""

    def write(
        self, orders: Sequence[Order], *, sampling: Sampling, on_text: Callable[[str], None] | None = None
    ) -> list[Completion]:
        """One completion an order; `on_text` is told the text of a batch of one while it is written."""
        ...


class Transformers:
    """A model of transformers (and peft), with any number of adapters beside it."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.structure = Structure(tokenizer, core(model).config.text_config.vocab_size)

    def write(
        self, orders: Sequence[Order], *, sampling: Sampling, on_text: Callable[[str], None] | None = None
    ) -> list[Completion]:
        """Batched, left-padded; each row is held to its grammar where it has one."""
        processors: list[LogitsProcessor] = []
        grammars = [order.grammar for order in orders]
        if any(grammars):
            processors.append(self.structure.hold(grammars, greedy=not sampling.temperature))
        if on_text is not None and len(orders) == 1:
            processors.append(Told(self.tokenizer, len(orders[0].asked.prompt.input_ids), on_text))
        return generate.write(
            self.model,
            self.tokenizer,
            [order.asked.prompt for order in orders],
            sampling=sampling,
            draws=[order.draw for order in orders] if sampling.temperature else (),
            processors=processors,
            interruptible=True,
        )

    def use(self, adapter: Path) -> None:
        """Answer with another adapter of the same base from now on; it is read once."""
        if not isinstance(self.model, PeftModel):
            raise InputError(f"{adapter}: the engine holds a whole model, which takes no adapter; load its base")
        name = str(adapter.resolve()).replace(".", "_")
        if name not in self.model.peft_config:
            self.model.load_adapter(str(adapter), adapter_name=name)
        self.model.set_adapter(name)


class Told(LogitsProcessor):
    """Hands on the text of one row as it grows, whole characters only."""

    def __init__(self, tokenizer: Any, start: int, on_text: Callable[[str], None]) -> None:
        self.tokenizer, self.start, self.on_text, self.said = tokenizer, start, on_text, ""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`input_ids` (1, L) so far; the scores pass unchanged."""
        text = self.tokenizer.decode(input_ids[0, self.start :], skip_special_tokens=True).rstrip("\ufffd")
        if len(text) > len(self.said):
            self.on_text(text[len(self.said) :])
            self.said = text
        return scores
