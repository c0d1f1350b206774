"""The engine: requests in, answers out, in order. A single request is a batch of one.

requests -> read and encoded by threads, ahead of the model -> sorted by length within a window, so that little is
padded -> written in batches, held to the grammar of their mode -> replies in the order of the requests
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import EngineConfig
from dvlm.data import answers
from dvlm.data.encode import Encoder
from dvlm.data.images import ImageError
from dvlm.data.messages import Prompts
from dvlm.inference.asking import Asked, Request, ask
from dvlm.inference.backend import Backend, Order
from dvlm.inference.grammar import Limits, answer_grammar
from dvlm.models.generate import Sampling
from dvlm.values import Annotation, Completion, InputError, generator

WINDOW = 8  # batches whose requests are sorted together


@dataclass(frozen=True)
class Reply:
    """The answer to a request. `failure` says why there is none; `finished` is false where it was cut off."""

    request: Request
    text: str = ""
    finished: bool = False
    tokens: int = 0
    failure: str | None = None
    asked: Asked | None = None

    def objects(self, prompts: Prompts) -> list[Annotation]:
        """The objects of each image in its own pixels; raises InputError where the answer cannot be read."""
        placed = self._placed()
        told = answers.parse(self.text, [each.canvas for each in placed], prompts)
        return [place.original(annotation) for place, annotation in zip(placed, told, strict=True)]

    def summaries(self) -> list[str]:
        """The summary of each image; raises InputError where the answer cannot be read."""
        return answers.parse_summaries(self.text, len(self._placed()))

    def _placed(self) -> tuple[Any, ...]:
        if self.asked is None:
            raise InputError(self.failure or "there is no answer")
        if not self.finished:
            raise InputError(f"the answer was cut off after {self.tokens} tokens; raise engine.max_new_tokens")
        return self.asked.placed


@dataclass(frozen=True)
class Engine:
    """Answers requests with one model; `prompts` and `canvas` are those that it was trained with."""

    backend: Backend
    encoder: Encoder
    prompts: Prompts
    canvas: Pipeline
    config: EngineConfig

    @property
    def window(self) -> int:
        """How many requests are sorted together, and answered before the first of them is handed on."""
        return self.config.batch_size * WINDOW

    def answer(self, requests: Iterable[Request], *, on_text: Callable[[str], None] | None = None) -> Iterator[Reply]:
        """One reply a request, in order; an image that cannot be read fails its own request only.

        `on_text` is told the text of a single request as it is written.
        """
        left = iter(requests)
        with ThreadPoolExecutor(max_workers=max(1, self.config.workers)) as pool:
            ahead = self._submit(pool, islice(left, self.window))
            while ahead:
                window, ahead = ahead, self._submit(pool, islice(left, self.window))
                yield from self._window([future.result() for future in window], on_text)

    def _submit(self, pool: ThreadPoolExecutor, requests: Iterable[Request]) -> list[Future[Asked | Reply]]:
        return [pool.submit(self._ask, request) for request in requests]

    def _ask(self, request: Request) -> Asked | Reply:
        try:
            return ask(request, prompts=self.prompts, canvas=self.canvas, encoder=self.encoder)
        except ImageError as error:
            return Reply(request, failure=str(error))

    def _window(self, window: Sequence[Asked | Reply], on_text: Callable[[str], None] | None) -> list[Reply]:
        """The replies of a window in order; batches are made of prompts of similar length."""
        replies = {place: each for place, each in enumerate(window) if isinstance(each, Reply)}
        asked = {place: each for place, each in enumerate(window) if isinstance(each, Asked)}
        order = sorted(asked, key=lambda place: len(asked[place].prompt.input_ids))
        for start in range(0, len(order), self.config.batch_size):
            places = order[start : start + self.config.batch_size]
            batch = [asked[place] for place in places]
            orders = [self._order(each) for each in batch]
            try:
                written = self.backend.write(orders, sampling=self._sampling, on_text=on_text)
            except torch.OutOfMemoryError as error:
                raise InputError(self._too_much(batch, error)) from error
            replies |= {place: self._reply(each, out) for place, each, out in zip(places, batch, written, strict=True)}
        return [replies[place] for place in range(len(window))]

    def _too_much(self, batch: Sequence[Asked], error: torch.OutOfMemoryError) -> str:
        longest, config = max(len(each.prompt.input_ids) for each in batch), self.config
        return (
            f"out of memory: {len(batch)} prompts of up to {longest:,} tokens were answered together: "
            f"{str(error).splitlines()[0]}\n  lower engine.batch_size ({config.batch_size}), engine.max_new_tokens "
            f"({config.max_new_tokens}; in training callbacks.score_max_new_tokens) or the size of the images"
        )

    @property
    def _sampling(self) -> Sampling:
        config = self.config
        return Sampling(max_new_tokens=config.max_new_tokens, temperature=config.temperature, top_p=config.top_p)

    def _order(self, asked: Asked) -> Order:
        grammar = self._grammar(asked) if self.config.constrained else None
        return Order(asked, grammar, generator(self.config.seed, "answer", 0, _number(asked.request)))

    def _grammar(self, asked: Asked) -> str | None:
        """The request's own form, else that of its mode; a question without images and without a form is free."""
        request, config = asked.request, self.config
        if request.grammar is not None or not asked.placed:
            return request.grammar
        norm: Any = self.prompts.emit_norm
        limits = Limits(
            max_objects=config.max_objects,
            max_line_points=config.max_line_points,
            max_desc_chars=config.max_desc_chars,
        )
        return answer_grammar(request.mode, [each.canvas for each in asked.placed], norm, limits)

    def _reply(self, asked: Asked, written: Completion) -> Reply:
        text = self.encoder.processor.tokenizer.decode(written.ids, skip_special_tokens=True)
        return Reply(asked.request, text, written.finished, len(written.ids), asked=asked)


def _number(request: Request) -> int:
    """A number of the request itself, so that what is sampled for it does not depend on its neighbours."""
    words = () if request.images else (request.user or "",)
    return zlib.crc32("\0".join([request.mode, *map(str, request.images), *words]).encode())
