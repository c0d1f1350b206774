"""Messages become token ids, labels, positions and pixels, through the model's own chat template and processor.

The prompt and each answer are tokenised on their own, at the boundary where generation starts: so a supervised token is
one that the model will have to produce, whatever the tokenizer would merge across the boundary.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

from dvlm.data.coordinates import coordinate_tokens
from dvlm.values import Drawn, InputError, Prompt, Sample, Turn

IGNORED = -100
# Patches stay uint8 (the device normalises them); and without a word on the format an image of one or three rows would
# be taken for one of channels first.
BYTES = {"do_rescale": False, "do_normalize": False, "input_data_format": "channels_last"}


@dataclass(frozen=True)
class Segment:
    """A stretch of the rendered conversation, and whether its tokens are supervised."""

    text: str
    supervised: bool


class RopeIndex:
    """M-RoPE positions without a model: transformers' own method on nothing but the configuration."""

    get_rope_index = Qwen3VLModel.get_rope_index
    get_vision_position_ids = Qwen3VLModel.get_vision_position_ids

    def __init__(self, config: Any) -> None:
        self.config = config

    def __call__(self, ids: torch.Tensor, types: torch.Tensor, grid: torch.Tensor | None) -> torch.Tensor:
        """Positions (3, L) of one sample: `ids` and `types` (L,), `grid` (I, 3)."""
        positions, _ = self.get_rope_index(ids[None], types[None], image_grid_thw=grid)  # type: ignore[misc, arg-type]
        return positions[:, 0]


@lru_cache(maxsize=256)
def _rendered_prompt(processor: Any, template: str, messages: str) -> str:
    """Messages, as JSON, and the beginning of an answer."""
    return processor.apply_chat_template(
        json.loads(messages), chat_template=template, tokenize=False, add_generation_prompt=True
    )


@dataclass(frozen=True)
class Encoder:
    """Encodes turns with `processor`; `model_config` is the Qwen3-VL configuration that positions depend on."""

    processor: Any
    model_config: Any

    def identity(self) -> str:
        """What tells one encoder from another: a hash over tokenizer, chat template and pixel limits."""
        processor = self.processor
        parts = (
            processor.tokenizer.backend_tokenizer.to_str(),
            json.dumps(processor.chat_template),
            processor.image_processor.to_json_string(),
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def segments(self, messages: Sequence[dict[str, Any]]) -> list[Segment]:
        """The conversation cut at the boundaries of its answers; what follows the last answer is left out."""
        end = self.processor.tokenizer.eos_token
        done, parts = "", []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self._prompt(messages[:index])
            whole = self._render(messages[: index + 1])
            if not (whole.startswith(prompt) and prompt.startswith(done)):
                raise InputError("the chat template rewrites earlier messages: its prompt is no prefix of the whole")
            stop = whole.find(end, len(prompt))
            if stop < 0:
                raise InputError(f"the chat template does not end an answer with {end}, the tokenizer's eos_token")
            stop += len(end)
            parts += [Segment(prompt[len(done) :], False), Segment(whole[len(prompt) : stop], True)]
            done = whole[:stop]
        return parts

    def prompt(self, messages: Sequence[dict[str, Any]]) -> str:
        """The text before the last answer, generation prompt included."""
        return self._prompt([*messages][:-1] if messages[-1]["role"] == "assistant" else messages)

    def _prompt(self, messages: Sequence[dict[str, Any]]) -> str:
        # Turns ask alike of different images: their prompt is rendered once.
        alike = [
            message | {"content": [item | {"image": ""} if "image" in item else item for item in message["content"]]}
            for message in messages
        ]
        return _rendered_prompt(self.processor, self.processor.chat_template, json.dumps(alike))

    def _render(self, messages: Sequence[dict[str, Any]]) -> str:
        return self.processor.apply_chat_template(list(messages), tokenize=False)

    def image_tokens(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """Placeholders of images of (width, height) pixels, without their pixels."""
        images = self.processor.image_processor
        # The processor's own count, without the checks of options that nobody gives here: they took longer than it.
        patches = [images.get_number_of_image_patches(height, width, {}) for width, height in sizes]
        return [count // images.merge_size**2 for count in patches]

    def lengths(
        self, segments: Sequence[Sequence[Segment]], sizes: Sequence[Sequence[tuple[int, int]]]
    ) -> NDArray[np.int64]:
        """(n, 2): tokens and supervised tokens of n conversations with images of the given (width, height)."""
        # Each text once: turns share their prompts.
        texts = list(dict.fromkeys(segment.text for parts in segments for segment in parts))
        encoded = self.processor.tokenizer.backend_tokenizer.encode_batch_fast(texts)
        counts = dict(zip(texts, map(len, encoded), strict=True))
        rows = []
        for parts, images in zip(segments, sizes, strict=True):
            own = [(counts[part.text], part.supervised) for part in parts]
            # A placeholder stands in the text once for each image and is repeated by the processor.
            tokens = sum(count for count, _ in own) + sum(self.image_tokens(images)) - len(images)
            rows.append((tokens, sum(count for count, supervised in own if supervised)))
        return np.array(rows, np.int64).reshape(-1, 2)

    def encode(
        self, turn: Turn, messages: Sequence[dict[str, Any]], drawn: tuple[Drawn, ...], pixels: list[NDArray[np.uint8]]
    ) -> Sample:
        """One sample; `pixels` are the rendered RGB images (H, W, 3) uint8 in order."""
        parts = self.segments(messages)
        out, ids, kinds = self._processed([part.text for part in parts], pixels)
        grid = out.get("image_grid_thw")
        supervised = torch.cat(
            [torch.full((len(row),), part.supervised) for row, part in zip(out["input_ids"], parts, strict=True)]
        )
        tokenizer = self.processor.tokenizer
        coordinates = [
            coordinate_tokens(row, tokenizer) if part.supervised else [False] * len(row)
            for row, part in zip(out["input_ids"], parts, strict=True)
        ]
        return Sample(
            turn=turn,
            input_ids=ids,
            labels=torch.where(supervised, ids, IGNORED),
            mm_token_type_ids=kinds,
            rope=RopeIndex(self.model_config)(ids, kinds, grid),
            pixel_values=out.get("pixel_values"),
            image_grid_thw=grid,
            drawn=drawn,
            answer="".join(item["text"] for item in messages[-1]["content"]),
            coordinates=torch.tensor([digit for row in coordinates for digit in row]),
        )

    def encode_prompt(self, messages: Sequence[dict[str, Any]], pixels: list[NDArray[np.uint8]]) -> Prompt:
        """A question, up to where its answer begins; `pixels` as for `encode`."""
        out, ids, kinds = self._processed([self.prompt(messages)], pixels)
        return Prompt(ids, kinds, out.get("pixel_values"), out.get("image_grid_thw"))

    def _processed(self, texts: list[str], pixels: list[NDArray[np.uint8]]) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """What the processor makes of texts and images; ids and token types of all texts end to end (L,)."""
        out = self.processor(text=texts, images=pixels or None, **(BYTES if pixels else {}))
        types = out.get("mm_token_type_ids")
        ids = torch.tensor([token for row in out["input_ids"] for token in row])
        kinds = torch.tensor([kind for row in types for kind in row]) if types else torch.zeros_like(ids)
        return out, ids, kinds
