"""vLLM behind the engine's interface: for merged models on a GPU. The package is the extra `vllm`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from dvlm.config import EngineConfig
from dvlm.inference.backend import Order
from dvlm.inference.source import Source
from dvlm.models.generate import Sampling
from dvlm.values import Completion, InputError


class VLLM:
    """One vLLM engine; it reads images and text itself, so that orders give it their pictures, not their patches."""

    def __init__(self, source: Source, config: EngineConfig) -> None:
        if source.base:
            raise InputError(
                f"engine=vllm: {source.directory} is an adapter; merge it first: python -m dvlm.export "
                "checkpoint=<it> output=<directory>"
            )
        try:
            import vllm
        except ImportError as error:
            raise InputError(f"engine=vllm needs the extra: pip install 'dvlm[vllm]' ({error})") from error
        self.vllm = vllm
        # vLLM refuses more pictures a request than it was told of.
        options: dict[str, Any] = {"dtype": config.torch_dtype or "auto", "limit_mm_per_prompt": {"image": 16}}
        self.model = vllm.LLM(model=str(source.directory), **options)

    def write(
        self, orders: Sequence[Order], *, sampling: Sampling, on_text: Callable[[str], None] | None = None
    ) -> list[Completion]:
        """One completion an order; the text of a single one is told when it is whole."""
        asked = [_asked(order) for order in orders]
        outputs = self.model.generate(asked, [self._parameters(order, sampling) for order in orders], use_tqdm=False)
        written = [output.outputs[0] for output in outputs]
        if on_text is not None and len(written) == 1:
            on_text(written[0].text)
        return [Completion(torch.tensor(list(each.token_ids)), each.finish_reason == "stop") for each in written]

    def _parameters(self, order: Order, sampling: Sampling) -> Any:
        from vllm.sampling_params import StructuredOutputsParams

        held = StructuredOutputsParams(grammar=order.grammar) if order.grammar else None
        return self.vllm.SamplingParams(
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=int(order.draw.integers(2**31)),
            structured_outputs=held,
        )


def _asked(order: Order) -> dict[str, Any]:
    """The text of a prompt, and its pictures where it has some."""
    from PIL import Image

    pictures = [Image.fromarray(each) for each in order.asked.pixels]
    return {"prompt": order.asked.text} | ({"multi_modal_data": {"image": pictures}} if pictures else {})
