"""Answers held to a grammar while they are written: xgrammar masks each token that cannot go on to a valid answer.

Shape letters: b rows of a batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import xgrammar
from torch import Tensor
from transformers import LogitsProcessor

CACHED_GRAMMARS = 256


class Structure:
    """Compiles grammars for one tokenizer; `words` is the width of the scores, padded rows of the head included."""

    def __init__(self, tokenizer: Any, words: int) -> None:
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=words, stop_token_ids=[tokenizer.eos_token_id]
        )
        self.words, self.special = words, frozenset(info.special_token_ids)
        self._compiler = xgrammar.GrammarCompiler(info)
        self.compile = lru_cache(CACHED_GRAMMARS)(self._compiler.compile_grammar)

    def hold(self, grammars: Sequence[str | None], *, greedy: bool) -> Held:
        """What holds one batch, row by row, each to its grammar (None: free). Good for one batch.

        `greedy`: the likeliest word is taken, so that a row where that one fits needs no mask.
        """
        matchers = [None if each is None else xgrammar.GrammarMatcher(self.compile(each)) for each in grammars]
        return Held(matchers, self.words, self.special, greedy=greedy)


class Held(LogitsProcessor):
    """Sets the scores of impossible tokens to -inf, in place; a finished row is free, what it gets is padding."""

    def __init__(
        self,
        matchers: Sequence[xgrammar.GrammarMatcher | None],
        words: int,
        special: frozenset[int],
        *,
        greedy: bool,
    ) -> None:
        self.matchers = {row: matcher for row, matcher in enumerate(matchers) if matcher is not None}
        self.mask = xgrammar.allocate_token_bitmask(len(matchers), words)
        self.special, self.greedy = special, greedy
        self._begun = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`input_ids` (b, L) so far, `scores` (b, V) float32 of the next word."""
        if self._begun:
            written = input_ids[:, -1].tolist()
            for row, matcher in self.matchers.items():
                token = written[row]
                if not matcher.is_terminated() and not matcher.accept_token(token):
                    raise RuntimeError(f"token {token} was written although the grammar had masked it")
        self._begun = True
        rows = [row for row, matcher in self.matchers.items() if not matcher.is_terminated()]
        if self.greedy and rows:
            likeliest = _likeliest(scores)
            rows = [row for row in rows if not self._fits(self.matchers[row], likeliest[row])]
        for row in rows:
            self.matchers[row].fill_next_token_bitmask(self.mask, row)
        if rows:
            _bar(scores, self.mask, rows)
        return scores

    def _fits(self, matcher: xgrammar.GrammarMatcher, token: int) -> bool:
        """Whether `token` may come next. xgrammar complains aloud when it is offered a special one."""
        if token in self.special or not matcher.accept_token(token):
            return False
        matcher.rollback(1)
        return True


def _likeliest(scores: Tensor) -> list[int]:
    """The word with the highest score of each row (b, V), the first of equals as torch has it."""
    # On a CPU numpy takes a tenth of torch's time.
    found: list[int] = (scores.numpy() if scores.device.type == "cpu" else scores).argmax(-1).tolist()
    return found


def _bar(scores: Tensor, mask: Tensor, rows: list[int]) -> None:
    """Scores (b, V) of `rows` become -inf where the bit of `mask` (b, V / 32 rounded up) is 0."""
    if scores.device.type != "cpu":
        xgrammar.apply_token_bitmask_inplace(scores, mask.to(scores.device, non_blocking=True), indices=rows)
        return
    # xgrammar's own loop over the bits takes twenty times as long on a CPU.
    for row in rows:
        barred = np.unpackbits((~mask[row]).numpy().view(np.uint8), count=scores.shape[1], bitorder="little")
        np.copyto(scores[row].numpy(), -np.inf, where=barred.view(bool))


def accepts(grammar: str, text: str) -> bool:
    """Whether `text` as a whole has the form of `grammar`; needs no tokenizer."""
    info = xgrammar.TokenizerInfo([*map(chr, range(128))])
    matcher = xgrammar.GrammarMatcher(
        xgrammar.GrammarCompiler(info).compile_grammar(grammar), terminate_without_stop_token=True
    )
    return matcher.accept_string(text) and matcher.is_completed()
