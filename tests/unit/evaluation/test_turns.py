"""Answers against the truth of their records: the truth itself scores 1, what cannot be read scores nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import DataConfig, EngineConfig
from dvlm.data import source
from dvlm.data.encode import Encoder
from dvlm.evaluation import run
from dvlm.evaluation.page import page
from dvlm.evaluation.result import Result, better
from dvlm.evaluation.turns import Answered, read, turns
from dvlm.inference.asking import Request, ask
from dvlm.inference.engine import Engine, Reply
from dvlm.metrics.scores import Score, scores
from dvlm.models import load
from dvlm.values import InputError


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["dense", "summary"])
def engine(request, tiny, demo_files) -> tuple[Engine, object]:
    """An engine without a model, on a canvas that pads, and validation records of one mode."""
    processor = load.load_processor(str(tiny))
    encoder = Encoder(processor, load.load_config(str(tiny)))
    canvas = Pipeline.build([{"name": "pad_to_multiple", "params": {"multiple": 64}}])
    data = DataConfig(val_jsonl=str(demo_files[1]), summary_ratio=request.param)
    line = source.validation(data, augmentation=canvas, encoder=encoder, seed=17)
    return Engine(None, encoder, line.prompts, canvas, EngineConfig()), line  # type: ignore[arg-type]


def told(engine: Engine, line, text: str | None = None) -> list[Answered]:
    """Each turn, answered with its own truth as training writes it, or with `text`."""
    found = []
    for turn in turns(line, None):
        asked = ask(
            Request(images=turn.images, mode=turn.mode),
            prompts=engine.prompts,
            canvas=engine.canvas,
            encoder=engine.encoder,
        )
        truth = line.messages(turn, line.draw(turn))[-1]["content"][0]["text"]
        reply = Reply(asked.request, truth if text is None else text, True, 1, asked=asked)
        found.append(read(turn, reply, engine))
    return found


def test_the_answer_of_training_scores_one(engine):
    """Through messages, norm1000, the padded canvas and back: rounding moves a corner by at most a pixel."""
    found = told(*engine)
    values = {name: score.value for name, score in scores([s for each in found for s in each.sums()]).items()}
    if "caption_f1" in values:
        assert values["caption_f1"] == values["f1_quad"] == values["desc_exact"] == 1
        assert values["localisation_error"] < 0.003
    else:
        assert values["summary_exact"] == 1
        assert values["count_error"] == 0
    assert values["parse_failures"] == 0


def test_what_cannot_be_read_tells_nothing(engine):
    found = told(*engine, text="[1, 2")
    assert all("not JSON" in str(each.error) for each in found)
    values = {name: score.value for name, score in scores([s for each in found for s in each.sums()]).items()}
    assert values["parse_failures"] == 1
    assert values.get("caption_f1", values.get("summary_exact")) == 0
    assert run.worst(found, 1)


def test_the_page_shows_the_worst_and_escapes_what_data_says(engine):
    answerer, line = engine
    found = told(answerer, line, text="<script>alert(1)</script>")
    table = {"f1": Score(0.5, 0.4, 0.6), "class/<b>/f1": Score(0.5, 0.5, 0.5), "parse_failures": Score(1, 1, 1)}
    other = Result({}, {"sft_loss": 2.0}, {"free": {"f1": Score(0.25, 0.2, 0.3), "parse_failures": Score(0, 0, 0)}})
    html = page(Result({"checkpoint": "<x>"}, {"sft_loss": 1.0}, {"free": table}), other, found[:2])
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "<b>" not in html.replace("<b></b>", "")
    assert "0.500 (0.400 to 0.600)" in html
    assert html.count("better") == 2
    assert "worse" in html


def test_a_page_says_where_two_were_not_evaluated_alike():
    ours, theirs = (Result({"checkpoint": name, "answered": count}, {}, {}) for name, count in (("a", 8), ("b", 6)))
    assert "answered is 8 here, 6 there" in page(ours, theirs, [])
    assert "not compared" not in page(ours, replace(theirs, facts={"checkpoint": "b", "answered": 8}), [])


def test_results_are_kept(tmp_path):
    result = Result({"turns": 3}, {"sft_loss": 1.5}, {"constrained": {"f1": Score(0.5, 0.4, 0.6)}})
    result.save(tmp_path)
    assert Result.load(tmp_path) == result
    with pytest.raises(InputError, match=r"no evaluation\.json in"):
        Result.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "verdict"), [("f1_quad", True), ("missed_quad", False), ("sft_loss/text", False), ("truncated", False)]
)
def test_which_way_is_up(name, verdict):
    assert better(name, 0.6, 0.5) is verdict
    assert better(name, 0.5, 0.5) is None
    assert better("entropy", 0.6, 0.5) is None


def test_dialogues_are_refused(engine, tiny, tmp_path, demo_files):
    answerer, _ = engine
    image = next((demo_files[1].parent / "images").iterdir())
    messages = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "!"}]
    file = tmp_path / "talk.jsonl"
    file.write_text(json.dumps({"messages": messages, "images": [str(image)]}), encoding="utf-8")
    data = DataConfig(val_jsonl=str(file))
    line = source.validation(data, augmentation=Pipeline(), encoder=answerer.encoder, seed=17)
    with pytest.raises(InputError, match="only records can be scored"):
        turns(line, None)
