"""What do batches, the form of answers, and merging cost or save?

    python benchmarks/inference.py [--images 64] [--tokens 48] [--rounds 5] [--tokenizer <directory of a real one>]

On the tiny model, with one thread and images of 64 to 160 pixels:
- images a second of the engine in batches of 16, sorted by length, against one request at a time; the answers must be
  equal. Goal: at least 5 times.
- CPU seconds a step (one token of each of 16 rows) with answers held to the form of dense captions against free ones,
  with the vocabulary of the tiny model and, with a head padded to it, of 151,936: made-up words, or those of a real
  tokenizer. Goal: at most 1.10. A model that has not learned the form, and whose other work is far cheaper than that
  of a real one: upper bounds. Once more, sampled: greedily a row whose likeliest word fits needs no mask.
- images a second of the merged model against the adapter on its base.
Each pair is measured in turns, so that a busy machine slows both; medians are compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from dvlm.config import EngineConfig, ExportConfig, ModelConfig
from dvlm.inference.asking import Request, ask
from dvlm.inference.backend import Order, Transformers
from dvlm.inference.engine import Engine
from dvlm.inference.grammar import Limits, answer_grammar
from dvlm.inference.loading import load_engine
from dvlm.models import load
from dvlm.models.generate import Sampling
from dvlm.models.merge import merge, ramp
from dvlm.models.tiny import prepare
from dvlm.process import quiet_libraries
from dvlm.values import Mode, generator

BATCH, REAL_VOCABULARY = 16, 151_936
SIDES = (64, 96, 128, 160)


def photographs(folder: Path, count: int) -> list[Path]:
    """Noise of sixteen sizes."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        size = (SIDES[number % 4], SIDES[number // 4 % 4])
        cv2.imwrite(str(path), rng.integers(0, 256, (*size, 3), np.uint8))
    return paths


def in_turns(
    one: Callable[[], Any],
    other: Callable[[], Any],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Median seconds of both, after one round that does not count. What they return must be equal."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        results = []
        for run, times in zip((one, other), seconds, strict=True):
            start = clock()
            results.append(run())
            times.append(clock() - start)
        assert results[0] == results[1], "the two sides do not answer alike"
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


def answers(engine: Engine, paths: list[Path], **changes: Any) -> Callable[[], list[str]]:
    """A run over all images."""
    engine = replace(engine, config=replace(engine.config, **changes))
    return lambda: [reply.text for reply in engine.answer(Request(images=(path,)) for path in paths)]


def batches(engine: Engine, paths: list[Path], rounds: int) -> None:
    """In batches of similar length, and one by one."""
    batched, single = in_turns(answers(engine, paths), answers(engine, paths, batch_size=1), rounds)
    both = f"{len(paths) / batched:.1f} against {len(paths) / single:.1f} images a second"
    print(f"batches of {BATCH}, sorted by length: {both}, {single / batched:.2f} times; equal answers")


def form(engine: Engine, paths: list[Path], tokens: int, rounds: int, real: str | None) -> None:
    """Seconds a step with and without the form, at both vocabularies."""
    tokenizer, model = engine.backend.tokenizer, engine.backend.model  # type: ignore[attr-defined]
    asked = [
        ask(Request(images=(path,)), prompts=engine.prompts, canvas=engine.canvas, encoder=engine.encoder)
        for path in paths[:BATCH]
    ]
    # No answer ends within the tokens measured: so all rows are held in every step.
    grammar = answer_grammar(Mode.DENSE, [(64, 64)], "norm1000", Limits(max_objects=100))
    opened = grammar.replace('"[]" | ', "").replace("{0,99}", "{99}")
    for words in (model.config.text_config.vocab_size, REAL_VOCABULARY):
        if words == REAL_VOCABULARY:
            tokenizer = AutoTokenizer.from_pretrained(real) if real else widened(tokenizer, REAL_VOCABULARY)
            torch.manual_seed(0)
            model.resize_token_embeddings(words, mean_resizing=False)
        backend = Transformers(model, tokenizer)
        for temperature in (0.0, 1.0):

            def steps(
                held: bool, backend: Transformers = backend, temperature: float = temperature
            ) -> Callable[[], int]:
                sampling = Sampling(max_new_tokens=tokens, temperature=temperature)

                def run() -> int:
                    orders = [Order(each, opened if held else None, generator(0, "answer", 0, 0)) for each in asked]
                    return max(len(each.ids) for each in backend.write(orders, sampling=sampling))

                return run

            held, free = in_turns(steps(True), steps(False), rounds, time.process_time)
            each = f"{held / tokens * 1000:.2f} against {free / tokens * 1000:.2f} ms a step of {BATCH} rows"
            way = "sampled" if temperature else "greedy"
            print(f"held to the form, {words:,} words, {way}: {each}, {held / free:.3f} times", flush=True)


def widened(tokenizer: Any, words: int) -> Any:
    """A copy of a tokenizer with made-up words of Latin or Chinese characters, as many as a real one has."""
    import json

    from tokenizers import Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    content, letter_of = json.loads(tokenizer.backend_tokenizer.to_str()), bytes_to_unicode()
    rng, vocabulary = np.random.default_rng(0), content["model"]["vocab"]
    alphabets = ([*map(chr, range(0x20, 0x7F))], [*map(chr, range(0x61, 0x7B))], [*map(chr, range(0x4E00, 0x9FA0))])
    number = max(len(tokenizer), max(vocabulary.values()) + 1)
    while number < words - 200:  # a real head has some rows without a word, too
        letters = rng.choice(alphabets[rng.choice(3, p=(0.05, 0.7, 0.25))], rng.integers(1, 7))
        word = "".join(letter_of[byte] for byte in "".join(letters).encode())
        if word not in vocabulary:
            vocabulary[word] = number
            number += 1
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        Tokenizer.from_str(json.dumps(content)).save(str(Path(folder) / "tokenizer.json"))
        return AutoTokenizer.from_pretrained(folder)


def merged(tiny: Path, paths: list[Path], config: EngineConfig, rounds: int, folder: Path) -> None:
    """The merged model against the adapter."""
    base = load.load_model(ModelConfig(model=str(tiny), torch_dtype="float32", max_model_len=1), packing=False)
    torch.manual_seed(0)
    adapted: Any = get_peft_model(base, LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.05)
    adapted.save_pretrained(folder / "adapter")
    load.load_processor(str(tiny)).save_pretrained(folder / "adapter")
    export = ExportConfig(checkpoint=str(folder / "adapter"), output=str(folder / "merged"))
    merge(
        folder / "adapter",
        folder / "merged",
        export,
        base=str(tiny),
        probe=ramp(load.load_processor(str(tiny))),
        finish=lambda *_: None,
    )
    whole = load_engine(str(folder / "merged"), None, config)
    adapter = load_engine(str(folder / "adapter"), str(tiny), config)
    fast, slow = in_turns(answers(whole, paths), answers(adapter, paths), rounds)
    both = f"{len(paths) / fast:.1f} against {len(paths) / slow:.1f} images a second"
    print(f"merged against adapter: {both}, {slow / fast:.2f} times; equal answers")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokenizer", help="directory of a tokenizer of at most 151,936 words")
    arguments = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    tiny = prepare(Path("outputs/cache"))
    config = EngineConfig(batch_size=BATCH, max_new_tokens=arguments.tokens, constrained=False)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = photographs(folder, arguments.images)
        batches(load_engine(str(tiny), None, config), paths, arguments.rounds)
        merged(tiny, paths, config, arguments.rounds, folder)
        form(load_engine(str(tiny), None, config), paths, arguments.tokens, arguments.rounds, arguments.tokenizer)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
