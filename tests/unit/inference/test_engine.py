"""The engine on an untrained tiny model: batches, order, failures, streaming, adapters, the canvas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from dvlm.augmentation.pipeline import Pipeline
from dvlm.config import EngineConfig, ExportConfig, ModelConfig
from dvlm.geometry.shapes import Kind, Shapes
from dvlm.inference import captions
from dvlm.inference.asking import Placed, Request, ask
from dvlm.inference.engine import Engine, Reply
from dvlm.inference.grammar import Limits, answer_grammar, verdict_grammar
from dvlm.inference.inputs import folder_images
from dvlm.inference.loading import load_engine
from dvlm.inference.structure import accepts
from dvlm.models import load
from dvlm.models.merge import merge, ramp
from dvlm.values import Annotation, Drawn, InputError, Mode

SMALL = EngineConfig(batch_size=4, max_new_tokens=160, max_objects=2, max_desc_chars=4, max_line_points=3)
LIMITS = Limits(max_objects=2, max_desc_chars=4, max_line_points=3)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Path]:
    """Noise of several sizes."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(64, 64), (96, 64), (64, 128), (33, 70), (128, 128), (64, 96)]):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (height, width, 3), np.uint8))
    return folder_images(folder)


@pytest.fixture(scope="module")
def requests(photographs) -> list[Request]:
    """One, two or three images, dense and summaries."""
    groups = [photographs[:1], photographs[1:3], photographs[3:4], photographs[:3], photographs[4:6], photographs[5:]]
    modes = [Mode.DENSE, Mode.DENSE, Mode.SUMMARY, Mode.DENSE, Mode.SUMMARY, Mode.DENSE]
    return [Request(images=tuple(group), mode=mode) for group, mode in zip(groups, modes, strict=True)]


@pytest.fixture(scope="module")
def engine(tiny) -> Engine:
    """The tiny model, answers held to their form."""
    return load_engine(str(tiny), None, SMALL)


def texts(engine: Engine, requests: Sequence[Request], **changes: object) -> list[str]:
    config = replace(engine.config, **changes)  # type: ignore[arg-type]
    return [reply.text for reply in replace(engine, config=config).answer(requests)]


def test_batched_answers_are_those_of_one_by_one(engine, requests):
    """Mixed sizes, image counts and modes in one batch; greedy and sampled."""
    alone = texts(engine, requests, batch_size=1)
    assert texts(engine, requests) == alone
    assert len(set(alone)) >= 4


def test_constrained_answers_are_whole_and_read_back(engine, requests):
    for reply in engine.answer(requests):
        assert reply.finished
        sizes = [each.canvas for each in reply.asked.placed]
        assert accepts(answer_grammar(reply.request.mode, sizes, "norm1000", LIMITS), reply.text)
        lines = list(captions.lines(reply, engine.prompts))
        assert [line["images"] for line in lines] == [[str(path)] for path in reply.request.images]


def test_free_answers_are_reported_not_repaired(engine, requests):
    free = replace(engine, config=replace(engine.config, constrained=False, max_new_tokens=5))
    for reply in free.answer(requests[:2]):
        assert not reply.finished
        for line in captions.lines(reply, engine.prompts):
            assert "cut off after 5 tokens" in line["error"]
            assert line["text"] == reply.text


def test_an_image_that_cannot_be_read_fails_alone(engine, requests, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n")
    asked = [requests[0], Request(images=(requests[0].images[0], broken)), requests[1]]
    first, failed, last = engine.answer(asked)
    assert [first.text, last.text] == texts(engine, requests[:2])
    assert str(broken) in failed.failure
    with pytest.raises(InputError, match=r"broken\.png"):
        failed.objects(engine.prompts)
    assert all(str(broken) in line["error"] for line in captions.lines(failed, engine.prompts))


def test_streamed_text_is_the_answer(engine, requests):
    said: list[str] = []
    (reply,) = engine.answer(requests[:1], on_text=said.append)
    assert "".join(said) == reply.text
    assert len(said) > 10


def test_sampling_depends_on_the_request_alone(engine, requests):
    hot = {"temperature": 1.0, "seed": 3}
    sampled = texts(engine, requests, **hot)
    assert sampled != texts(engine, requests)
    assert texts(engine, requests[::-1], **hot, batch_size=1)[::-1] == sampled


def test_questions_in_words_share_a_batch_with_images(engine, requests):
    """An image with its form, words with a form of their own, and words that are free: each row is held for itself."""
    verdict = Request(
        images=(), system="s", user="图片_1: 标签×2", grammar=verdict_grammar("通过", "不通过", "理由: ", 5)
    )
    free = Request(images=(), system="s", user="图片_1: 标签×1")
    asked = [verdict, requests[0], free, requests[2]]
    alone = texts(engine, asked, batch_size=1)
    assert texts(engine, asked) == alone
    assert accepts(verdict.grammar, alone[0])
    assert texts(engine, [verdict, free], constrained=False)[1] == alone[2]


@pytest.mark.parametrize("count", [pytest.param(48, id="48"), pytest.param(500, id="500", marks=pytest.mark.slow)])
def test_every_generation_is_valid_or_counted(engine, photographs, count):
    """Sampled, with a seed for each 48: held to the form all are whole and valid; free ones are counted."""
    modes = [Mode.DENSE, Mode.SUMMARY]
    asked = [
        Request(images=tuple(photographs[n % 5 : n % 5 + 1 + n % 2]), mode=modes[n % 3 == 0]) for n in range(count)
    ]
    config = replace(SMALL, batch_size=48, temperature=2.0, max_objects=1, max_new_tokens=200)
    valid = []
    for number in range(0, count, 48):
        seeded = replace(engine, config=replace(config, seed=number))
        for reply in seeded.answer(asked[number : number + 48]):
            form = answer_grammar(
                reply.request.mode,
                [each.canvas for each in reply.asked.placed],
                "norm1000",
                replace(LIMITS, max_objects=1),
            )
            assert reply.finished
            assert accepts(form, reply.text)
            assert list(json.loads(reply.text)) == [f"图片_{n + 1}" for n in range(len(reply.request.images))]
            valid.append(reply.text)
    assert len(valid) == count
    assert len(set(valid)) > 15
    free = replace(engine, config=replace(config, constrained=False, max_new_tokens=12))
    lines = [line for reply in free.answer(asked) for line in captions.lines(reply, engine.prompts)]
    failed = sum("error" in line for line in lines)
    print(f"{failed} of {len(lines)} images have no valid answer without the form")
    assert len(lines) == sum(len(request.images) for request in asked)
    assert failed == len(lines), "an untrained model does not write JSON by chance"


@pytest.fixture(scope="module")
def adapters(tiny, tmp_path_factory) -> tuple[Path, Path]:
    """Two adapters of the tiny model with random weights."""
    base = load.load_model(ModelConfig(model=str(tiny), torch_dtype="float32", max_model_len=1), packing=False)
    torch.manual_seed(0)
    towers = ["q_proj", "v_proj", "linear_fc1"]
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=towers, init_lora_weights=False))
    folder = tmp_path_factory.mktemp("adapters")
    for name in ("a", "b"):
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                parameter.data.normal_(std=0.3)
        adapted.save_pretrained(folder / name)
        load.load_processor(str(tiny)).save_pretrained(folder / name)
    return folder / "a", folder / "b"


def test_adapters_are_swapped_on_one_base(tiny, requests, adapters):
    engine = load_engine(str(adapters[0]), str(tiny), SMALL)
    first = texts(engine, requests[:2])
    engine.backend.use(adapters[1])
    second = texts(engine, requests[:2])
    assert second == texts(load_engine(str(adapters[1]), str(tiny), SMALL), requests[:2])
    assert first != second
    with pytest.raises(InputError, match="whole model"):
        load_engine(str(tiny), None, SMALL).backend.use(adapters[0])


def test_adapter_and_merged_model_answer_alike(tiny, requests, adapters, engine, tmp_path):
    export = ExportConfig(checkpoint=str(adapters[0]), output=str(tmp_path / "merged"))
    merge(
        adapters[0],
        tmp_path / "merged",
        export,
        base=str(tiny),
        probe=ramp(load.load_processor(str(tiny))),
        finish=lambda *_: None,
    )
    adapted, merged = (
        load_engine(str(each), base, SMALL) for each, base in ((adapters[0], str(tiny)), (tmp_path / "merged", None))
    )
    for changes in ({}, {"constrained": False, "max_new_tokens": 24}):
        wanted = texts(adapted, requests, **changes)
        assert texts(merged, requests, **changes) == wanted
        assert texts(engine, requests, **changes) != wanted


def test_answers_come_back_in_pixels_of_the_original(photographs, engine):
    """70 x 33 pixels on a canvas of 96 x 64: the whole canvas told as a box is the image, cut at its border."""
    canvas = Pipeline.build([{"name": "pad_to_multiple", "params": {"multiple": 32}}])
    asked = ask(Request(images=(photographs[3],)), prompts=engine.prompts, canvas=canvas, encoder=engine.encoder)
    assert asked.placed[0].canvas == (96, 64)
    boxes = [{"bbox_2d": [0, 0, 1000, 1000], "desc": "x"}, {"bbox_2d": [0, 0, 500, 250], "desc": "y"}]
    reply = Reply(asked.request, json.dumps({"图片_1": boxes}, ensure_ascii=False), True, 9, asked=asked)
    (told,) = reply.objects(engine.prompts)
    assert told.shapes.of(0).tolist() == [[0, 0], [70, 33]]
    assert told.shapes.of(1).tolist() == [[0, 0], [48, 16]]


def test_a_scaled_canvas_is_undone():
    drawn = Drawn(Annotation(50, 50, Shapes.build([(Kind.BBOX, [0, 0, 50, 25])]), ("",)))
    told = Annotation(50, 50, Shapes.build([(Kind.LINE, [10, 10, 20, 25])]), ("x",))
    assert Placed.of(drawn, (200, 100)).original(told).shapes.points.tolist() == [[40, 40], [80, 100]]


def test_the_canvas_is_kept_with_a_checkpoint(tmp_path):
    pipeline = Pipeline.build([{"name": "hflip"}, {"name": "pad_to_multiple", "params": {"multiple": 64}}])
    pipeline.save(tmp_path)
    assert Pipeline.load(tmp_path) == pipeline.clean()
    assert Pipeline.load(tmp_path / "nothing") == Pipeline()


@pytest.mark.parametrize("what", ["nothing", "empty", "no processor", "base of a whole model", "vllm"])
def test_what_is_no_checkpoint_is_named(what, tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in (tiny / "config.json", *tiny.glob("*.safetensors")):
        (bare / file.name).symlink_to(file)
    arguments = {
        "nothing": (str(tmp_path / "absent"), None, SMALL, "is no directory"),
        "empty": (str(tmp_path / "empty"), None, SMALL, "neither adapter_config.json nor config.json"),
        "no processor": (str(bare), None, SMALL, "no processor"),
        "base of a whole model": (str(tiny), str(tiny), SMALL, "leave base_model out"),
        "vllm": (str(tiny), None, replace(SMALL, backend="vllm"), "needs the extra"),
    }
    *given, message = arguments[what]
    with pytest.raises(InputError, match=message):
        load_engine(*given)


def test_folders_are_read_in_natural_order(tmp_path):
    for name in ("img10.jpg", "img2.JPG", "img1.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in folder_images(tmp_path)] == ["img1.png", "img2.JPG", "img10.jpg"]


def test_out_of_memory_names_the_batch_and_what_to_lower(engine, requests, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore of it")

    monkeypatch.setattr(engine.backend, "write", full)
    with pytest.raises(
        InputError, match=r"4 prompts of up to \d+ tokens .* 2.00 GiB.\n  lower engine.batch_size \(4\)"
    ):
        texts(engine, requests)
