"""Answers held to a grammar while they are written: xgrammar masks each token that cannot go on to a valid answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

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
        self.words, self.pad_id = words, tokenizer.pad_token_id
        self._compiler = xgrammar.GrammarCompiler(info)
        self.compile = lru_cache(CACHED_GRAMMARS)(self._compiler.compile_grammar)

    def hold(self, grammars: Sequence[str | None]) -> Held:
        """What holds one batch, row by row, each to its grammar (None: free). Good for one batch."""
        matchers = [None if each is None else xgrammar.GrammarMatcher(self.compile(each)) for each in grammars]
        return Held(matchers, self.words)


class Held(LogitsProcessor):
    """Sets the scores of impossible tokens to -inf; a finished row is free, what it gets is padding."""

    def __init__(self, matchers: Sequence[xgrammar.GrammarMatcher | None], words: int) -> None:
        self.matchers = {row: matcher for row, matcher in enumerate(matchers) if matcher is not None}
        self.mask = xgrammar.allocate_token_bitmask(len(matchers), words)
        self._begun = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`input_ids` (b, L) so far, `scores` (b, V) of the next word."""
        if self._begun:
            written = input_ids[:, -1].tolist()
            for row, matcher in self.matchers.items():
                token = written[row]
                if not matcher.is_terminated() and not matcher.accept_token(token):
                    raise RuntimeError(f"token {token} was written although the grammar had masked it")
        self._begun = True
        open_rows = [row for row, matcher in self.matchers.items() if not matcher.is_terminated()]
        if not open_rows:
            return scores
        for row in open_rows:
            self.matchers[row].fill_next_token_bitmask(self.mask, row)
        held = scores.clone()
        xgrammar.apply_token_bitmask_inplace(held, self.mask.to(held.device, non_blocking=True), indices=open_rows)
        return held


def accepts(grammar: str, text: str) -> bool:
    """Whether `text` as a whole has the form of `grammar`; needs no tokenizer."""
    info = xgrammar.TokenizerInfo([*map(chr, range(128))])
    matcher = xgrammar.GrammarMatcher(
        xgrammar.GrammarCompiler(info).compile_grammar(grammar), terminate_without_stop_token=True
    )
    return matcher.accept_string(text) and matcher.is_completed()
