"""The tiny model is a whole Qwen3-VL checkpoint: plain transformers reads it, and its pictures matter to it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer, Qwen3VLForConditionalGeneration

import dvlm
from dvlm import durable
from dvlm.models import tiny, tiny_tokenizer
from dvlm.models.tiny import TinySpec, prepare

ANSWER = json.dumps(
    {"图片_1": [{"bbox_2d": [0, 15, 734, 1000], "desc": "BBU设备/品牌:华为/型号:5900"}], "图片_2": []},
    ensure_ascii=False,
)
SMALL = TinySpec(hidden=48, heads=2, kv_heads=1, layers=2, head_dim=24, vision_depth=2, deepstack=(0, 1), merges=50)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def checkpoint(root) -> Path:
    return prepare(root)


@pytest.fixture(scope="module")
def model(checkpoint):
    return Qwen3VLForConditionalGeneration.from_pretrained(checkpoint).eval()


@pytest.fixture(scope="module")
def processor(checkpoint):
    return AutoProcessor.from_pretrained(checkpoint)


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def messages(*pictures: Image.Image, answer: str | None = ANSWER) -> list[dict]:
    content = [{"type": "image", "image": image} for image in pictures]
    talk = [
        {"role": "system", "content": "你是助手。"},
        {"role": "user", "content": [*content, {"type": "text", "text": "请描述图片中的所有物体"}]},
    ]
    return talk if answer is None else [*talk, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]


def encode(processor, talk: list[dict], **kwargs):
    return processor.apply_chat_template(talk, tokenize=True, return_dict=True, return_tensors="pt", **kwargs)


def content_of(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def in_a_new_process(code: str, *arguments: str, hash_seed: int = 1) -> str:
    """What `code` prints in a fresh interpreter that finds this dvlm."""
    home = Path(dvlm.__file__).parents[1]
    command = [sys.executable, "-B", "-c", code, *arguments]
    environment = {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(home)}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_size_and_kind_of_the_weights(model):
    parameters = list(model.parameters())
    assert 800_000 < sum(p.numel() for p in parameters) < 1_300_000
    assert {p.dtype for p in parameters} == {torch.float32}
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.get_input_embeddings().weight.std().item() == pytest.approx(0.08, rel=0.02)
    assert model.model.language_model.layers[0].mlp.up_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("tie", [True, False])
def test_plain_transformers_loads_every_weight(root, tie):
    path = prepare(root, tie=tie, spec=SMALL)
    model, info = Qwen3VLForConditionalGeneration.from_pretrained(path, output_loading_info=True)
    assert not info["missing_keys"] | info["unexpected_keys"]
    assert torch.equal(model.lm_head.weight, model.get_input_embeddings().weight) == tie
    assert model.lm_head.weight.std().item() == pytest.approx(0.08, rel=0.05)


def test_it_answers_two_pictures_of_different_size(model, processor):
    inputs = encode(processor, messages(picture(64, 96), picture(160, 32), answer=None), add_generation_prompt=True)
    assert inputs["image_grid_thw"].tolist() == [[1, 4, 6], [1, 10, 2]]
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == 6 + 5
    written = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert written.shape[1] == inputs["input_ids"].shape[1] + 3


@torch.no_grad()
def test_content_place_and_deepstack_of_a_picture_reach_the_answer(model, processor):
    inputs = encode(processor, messages(picture(128, 128), picture(64, 96)))
    start = inputs["input_ids"][0].tolist().index(processor.tokenizer.convert_tokens_to_ids("assistant"))

    def answer(**changes) -> torch.Tensor:
        return model(**{**inputs, **changes}).logits[0, start:]

    def effect(logits: torch.Tensor) -> float:
        return ((logits - plain).abs().mean() / plain.std()).item()

    plain = answer()
    other = encode(processor, messages(picture(128, 128, seed=1), picture(64, 96)))["pixel_values"]
    moved = torch.cat([inputs["pixel_values"][:64].flip(0), inputs["pixel_values"][64:]])
    features = model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    assert len(features.deepstack_features) == 3
    features.deepstack_features = [[torch.zeros_like(part) for part in layer] for layer in features.deepstack_features]
    flat = {**inputs, "pixel_values": None, "mm_encoder_outputs": {"image": features}}
    assert effect(answer()) == 0
    assert effect(answer(pixel_values=other)) > 0.05
    assert effect(answer(pixel_values=moved)) > 0.05
    assert effect(model(**flat).logits[0, start:]) > 0.05


def test_the_template_is_chatml(processor):
    talk = [*messages(picture(32, 32)), {"role": "user", "content": "好"}]
    assert processor.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\n你是助手。<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>请描述图片中的所有物体<|im_end|>\n"
        f"<|im_start|>assistant\n{ANSWER}<|im_end|>\n"
        "<|im_start|>user\n好<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("pictures", [(), ((64, 96),), ((64, 96), (32, 160))])
def test_the_assistant_mask_is_the_answer_and_its_end(processor, pictures):
    talk = messages(*(picture(*size) for size in pictures))
    plain_text = [*talk[:2], {"role": "assistant", "content": ANSWER}]
    for variant in (talk, plain_text):
        encoded = encode(processor, variant, return_assistant_tokens_mask=True)
        mask = torch.as_tensor(encoded["assistant_masks"]).bool()
        assert processor.tokenizer.decode(encoded["input_ids"][mask]) == ANSWER + "<|im_end|>"


def test_two_turns_have_two_supervised_answers(processor):
    talk = [*messages(picture(64, 64)), {"role": "user", "content": "再来"}, {"role": "assistant", "content": "通过"}]
    encoded = encode(processor, talk, return_assistant_tokens_mask=True)
    mask = torch.as_tensor(encoded["assistant_masks"]).bool()
    assert processor.tokenizer.decode(encoded["input_ids"][mask]) == ANSWER + "<|im_end|>通过<|im_end|>"


def test_the_processor_normalises_as_qwen3_vl_and_keeps_pixel_limits(root, processor):
    grey = processor.image_processor(Image.new("RGB", (64, 64), (128, 128, 128)), return_tensors="pt")
    assert grey["pixel_values"].abs().max() < 0.005
    assert grey["pixel_values"].shape == (16, 3 * 2 * 16 * 16)
    limited = AutoProcessor.from_pretrained(prepare(root, spec=TinySpec(max_pixels=64 * 64)))
    assert limited._get_num_multimodal_tokens(image_sizes=[(256, 256)])["num_image_tokens"] == [4]
    assert processor._get_num_multimodal_tokens(image_sizes=[(256, 256)])["num_image_tokens"] == [64]


def test_special_tokens_follow_qwens_order(checkpoint, model):
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    first = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    names = (*tiny_tokenizer.CONTROL_TOKENS, *tiny_tokenizer.PLAIN_ADDED_TOKENS)
    assert tokenizer.convert_tokens_to_ids(list(names)) == list(range(first, first + 26))
    # The distances from <|endoftext|> in the released vocabulary (151643).
    assert model.config.vision_start_token_id - first == 151652 - 151643
    assert model.config.image_token_id - first == 151655 - 151643
    assert first + 26 == len(tokenizer) <= model.config.text_config.vocab_size <= 700
    assert tokenizer.convert_tokens_to_ids("<|nothing|>") is None
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert (
        tokenizer.decode(tokenizer.encode("<|im_start|>好<think><|im_end|>"), skip_special_tokens=True) == "好<think>"
    )


@cache
def _trained():
    return tiny_tokenizer.train(TinySpec().merges)


@given(text=st.text())
@settings(deadline=None, max_examples=200)
def test_any_text_survives(text):
    tokenizer = _trained()
    normal = unicodedata.normalize("NFC", text)
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == normal


def test_text_costs_what_it_should():
    tokenizer = _trained()
    assert tokenizer.encode("1000").tokens == ["1", "0", "0", "0"]
    assert len(tokenizer.encode("光模块").ids) == 1
    assert tokenizer.encode("<|im_start|>assistant\n").tokens == ["<|im_start|>", "assistant", "Ċ"]
    assert 40 < len(tokenizer.encode(ANSWER).ids) < 60


def test_too_many_merges_are_refused():
    with pytest.raises(ValueError, match="merges=5000 is more than the corpus holds"):
        tiny_tokenizer.train(5000)


def test_every_build_gives_the_same_bytes(checkpoint, tmp_path):
    again = prepare(tmp_path)
    assert again.name == checkpoint.name
    assert content_of(again) == content_of(checkpoint)
    code = "from dvlm.models import tiny_tokenizer as t; print(hash('x'), t.train(350).to_str())"
    runs = [in_a_new_process(code, hash_seed=seed).split(" ", 1) for seed in (1, 2)]
    assert runs[0][0] != runs[1][0]
    assert runs[0][1] == runs[1][1]


def test_seed_tie_and_sizes_name_the_directory(checkpoint, root):
    names = {
        tiny._fingerprint(seed=seed, tie=tie, spec=spec)
        for seed, tie, spec in [
            (17, True, TinySpec()),
            (18, True, TinySpec()),
            (17, False, TinySpec()),
            (17, True, SMALL),
        ]
    }
    assert len(names) == 4
    assert checkpoint.name.removeprefix("tiny-") in names
    other = Qwen3VLForConditionalGeneration.from_pretrained(prepare(root, seed=18, spec=SMALL))
    same_sizes = Qwen3VLForConditionalGeneration.from_pretrained(prepare(root, seed=19, spec=SMALL))
    assert not torch.equal(other.get_input_embeddings().weight, same_sizes.get_input_embeddings().weight)


def test_a_build_leaves_random_state_alone(tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    prepare(tmp_path, spec=SMALL)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_second_call_neither_builds_nor_imports_torch(checkpoint):
    code = (
        "import pathlib, sys; from dvlm.models.tiny import prepare;"
        "print(prepare(pathlib.Path(sys.argv[1]))); print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    before = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert in_a_new_process(code, str(checkpoint.parent)).splitlines() == [str(checkpoint), "False False"]
    assert (checkpoint / "model.safetensors").stat().st_mtime_ns == before


def test_the_slower_of_two_builders_takes_what_is_there(tmp_path, monkeypatch):
    def write(directory: Path, **_) -> None:
        (directory / "config.json").write_text("mine")
        target = durable.meant(directory)
        target.mkdir()
        (target / "config.json").write_text("theirs")

    monkeypatch.setattr(tiny, "_write", write)
    assert (prepare(tmp_path) / "config.json").read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_broken_build_leaves_nothing(tmp_path, monkeypatch):
    def write(directory: Path, **_) -> None:
        (directory / "config.json").write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(tiny, "_write", write)
    with pytest.raises(OSError, match="disk full"):
        prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"vision_hidden": 50}, "vision_hidden / vision_heads must be a multiple of 4"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"kv_heads": 3}, "heads must be a multiple of kv_heads"),
        ({"deepstack": (6,)}, "deepstack must name"),
        ({"min_pixels": 0}, "min_pixels"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        TinySpec(**sizes)
