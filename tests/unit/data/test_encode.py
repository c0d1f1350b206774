"""Encoding: which tokens are supervised, that the template agrees, and that lengths are known without pixels."""

from dataclasses import replace

import datakit
import numpy as np
import pytest
import torch
from PIL import Image
from support import small_config

from dvlm.config import ModelConfig
from dvlm.data.encode import IGNORED, RopeIndex
from dvlm.data.index import RecordFile
from dvlm.models.load import load_model
from dvlm.models.pixels import floats
from dvlm.values import InputError, Mode

TALK = [
    {"role": "system", "content": "你是助手"},
    {"role": "user", "content": "<image>什么?"},
    {"role": "assistant", "content": "光模块"},
    {"role": "user", "content": "几个?"},
    {"role": "assistant", "content": "3个\n"},
]


def hand_written(folder, tiny, *rows, **changes):
    """The sample of the first turn of a file with `rows`, and its line."""
    line = datakit.line(list(RecordFile(datakit.write(folder / "a.jsonl", *rows))), tiny, **changes)
    return line.sample(0, 0), line


def spelt(sample, tokenizer):
    """The texts of the supervised tokens, one by one."""
    return [tokenizer.decode([token]) for token in sample.labels[sample.labels != IGNORED]]


def test_exactly_the_answer_and_its_end_are_supervised(tmp_path, tiny):
    sample, line = hand_written(tmp_path, tiny, datakit.row(objects=[{"bbox_2d": [0, 12, 32, 48], "desc": "0"}]))
    tokenizer = line.encoder.processor.tokenizer
    answer = '{"图片_1": [{"bbox_2d": [0, 250, 500, 1000], "desc": "0"}]}'
    texts = spelt(sample, tokenizer)
    assert sample.answer == answer
    assert "".join(texts) == f"{answer}<|im_end|>"
    assert texts[-1] == "<|im_end|>"
    # Digits never merge, and nothing of the prompt or of the next turn is supervised.
    assert "|".join(texts).count("|2|5|0|") == 1
    first = int((sample.labels != IGNORED).nonzero()[0])
    assert tokenizer.decode(sample.input_ids[:first]).endswith("<|im_start|>assistant\n")
    assert len(sample.input_ids) == first + len(texts)
    assert sample.labels[first:].equal(sample.input_ids[first:])
    assert (sample.labels[:first] == IGNORED).all()


def test_a_summary_turn_supervises_its_line(tmp_path, tiny):
    sample, line = hand_written(tmp_path, tiny, datakit.row(), datakit.row(), summary_ratio=1.0)
    tokenizer = line.encoder.processor.tokenizer
    assert "".join(spelt(sample, tokenizer)) == '{"图片_1": "光模块×1", "图片_2": "光模块×1"}<|im_end|>'
    assert line.prompts.system_summary in tokenizer.decode(sample.input_ids)


def test_both_answers_of_a_dialogue_are_supervised(tmp_path, tiny):
    sample, line = hand_written(tmp_path, tiny, {"messages": TALK, "images": ["a.png"]})
    tokenizer = line.encoder.processor.tokenizer
    supervised = sample.labels[sample.labels != IGNORED]
    assert tokenizer.decode(supervised) == "光模块<|im_end|>3个\n<|im_end|>"
    ends = (sample.labels == tokenizer.eos_token_id).nonzero().flatten()
    assert len(ends) == 2
    unsupervised = tokenizer.decode(sample.input_ids[sample.labels == IGNORED])
    assert unsupervised.count("<|im_end|>") == 3
    assert unsupervised.endswith("几个?<|im_end|>\n<|im_start|>assistant\n")


def by_template(line, turn, drawn):
    """The whole conversation, rendered and tokenised by the processor at one go."""
    messages, paths = [], iter(turn.images)
    for message in line.messages(turn, drawn):
        items = [
            item if item["type"] == "text" else {"type": "image", "image": Image.open(next(paths))}
            for item in message["content"]
        ]
        messages.append(message | {"content": items})
    return line.encoder.processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", return_assistant_tokens_mask=True
    )


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_the_template_marks_the_same_tokens(demo_files, tiny, ratio):
    line = datakit.line(list(RecordFile(demo_files[0])), tiny, summary_ratio=ratio)
    for index in range(line.turns):
        same_as_template(line, index)


def same_as_template(line, index):
    sample = line.sample(0, index)
    out = by_template(line, sample.turn, sample.drawn)
    length = len(sample.input_ids)
    mask = torch.as_tensor(out["assistant_masks"]).flatten().bool()
    # What the template writes after the last answer is not learnt, so it is left out.
    assert line.encoder.processor.tokenizer.decode(out["input_ids"][0, length:]) == "\n"
    assert sample.input_ids.equal(out["input_ids"][0, :length])
    assert (sample.labels != IGNORED).equal(mask[:length])
    assert sample.mm_token_type_ids.equal(out["mm_token_type_ids"][0, :length])
    assert sample.image_grid_thw.equal(out["image_grid_thw"])
    assert floats(sample.pixel_values).equal(out["pixel_values"])


def test_the_template_marks_both_answers_of_a_dialogue(tmp_path, tiny):
    file = datakit.write(tmp_path / "a.jsonl", {"messages": TALK, "images": ["a.png"]})
    same_as_template(datakit.line(list(RecordFile(file)), tiny), 0)


def test_positions_are_those_of_the_model(demo_files, tiny):
    model = load_model(ModelConfig(model=str(tiny), torch_dtype="float32", max_model_len=4096), packing=False).model
    line = datakit.line(list(RecordFile(demo_files[0])), tiny)
    sample = line.sample(0, 1)
    wanted, _ = model.get_rope_index(
        sample.input_ids[None], sample.mm_token_type_ids[None], image_grid_thw=sample.image_grid_thw
    )
    assert sample.rope.equal(wanted[:, 0])
    assert RopeIndex(line.encoder.model_config)(torch.arange(5), torch.zeros(5, dtype=torch.long), None).equal(
        torch.arange(5).expand(3, 5)
    )


def check_lengths(line, epochs):
    """Predicted tokens and supervised tokens equal the encoded ones, for every turn; returns how many."""
    for epoch in range(epochs):
        predicted = line.lengths(epoch, range(line.turns))
        for index in range(line.turns):
            sample = line.sample(epoch, index)
            found = (len(sample.input_ids), int((sample.labels != IGNORED).sum()))
            assert found == tuple(predicted[index]), (epoch, index)
            merged = sample.image_grid_thw.prod(1).sum() // 4
            assert merged == (sample.input_ids == line.encoder.model_config.image_token_id).sum()
            assert len(sample.pixel_values) == 4 * merged
    return epochs * line.turns


@pytest.mark.parametrize("preset", ["none", "dense"])
def test_lengths_are_exact(demo_files, tiny, preset):
    ops = small_config(f"augmentation={preset}").augmentation.as_mappings()
    line = datakit.line(list(RecordFile(demo_files[0])), tiny, ops=ops, summary_ratio=0.4, images_per_user_turn=3)
    assert check_lengths(line, 3) == 24
    assert {line.turn(e, i).mode for e in range(3) for i in range(8)} == set(Mode)


@pytest.mark.slow
def test_lengths_are_exact_for_a_thousand_augmented_turns(demo_files, tiny):
    ops = [
        {"name": "scale", "params": {"lo": 0.5, "hi": 1.7, "prob": 0.8}},
        {"name": "rotate", "params": {"max_deg": 40.0, "prob": 0.8}},
        {"name": "expand_to_fit_affine", "params": {"multiple": 8}},
        {"name": "random_crop", "params": {"scale": [0.3, 1.0], "prob": 0.5}},
    ]
    small = datakit.encoder(tiny, max_pixels=64 * 1024)
    line = datakit.line(list(RecordFile(demo_files[0])), tiny, ops=ops, encoding=small, summary_ratio=0.2)
    assert check_lengths(line, 84) == 1008


SIZES = [
    (1, 1),
    (1, 3),
    (3, 1),
    (3, 200),
    (199, 1),
    (5, 7),
    (31, 33),
    (48, 48),
    (47, 81),
    (100, 333),
    (640, 479),
    (1000, 700),
]


@pytest.mark.parametrize(("least", "most"), [(None, None), (None, 4096), (16384, 65536), (1024, 40_000)])
def test_image_tokens_of_odd_sizes(tmp_path, tiny, least, most):
    rows = []
    for width, height in SIZES:
        datakit.picture(tmp_path / f"{width}x{height}.png", width, height)
        rows.append(datakit.row(image=f"{width}x{height}.png", width=width, height=height, objects=[]))
    encoder = datakit.encoder(tiny, least, most)
    parts = list(RecordFile(datakit.write(tmp_path / "a.jsonl", *rows)))
    check_lengths(datakit.line(parts, tiny, encoding=encoder, images_per_user_turn=1), 1)
    counts = encoder.image_tokens(SIZES)
    assert counts == [encoder.image_tokens([size])[0] for size in SIZES]
    for (width, height), count in zip(SIZES, counts, strict=True):
        # The limits are on pixels; a token stands for 32 x 32 of them. A sliver has to be enlarged beyond them.
        assert count * 1024 <= (most or 1024 * 1024) or min(width, height) < 5
        assert count * 1024 >= (least or 1024)
        if width % 32 == height % 32 == 0 and not least and not most:
            assert count == width * height // 1024


def test_a_higher_limit_gives_more_tokens(tiny):
    counts = [datakit.encoder(tiny, None, most).image_tokens([(1000, 700)])[0] for most in (4096, 65536, 10**6)]
    assert counts == sorted(set(counts))
    assert counts[-1] == 31 * 22


def test_an_image_of_three_rows_is_not_taken_for_its_channels(tmp_path, tiny):
    datakit.picture(tmp_path / "a.png", 96, 3)
    sample, _ = hand_written(tmp_path, tiny, datakit.row(width=96, height=3, objects=[]))
    wide = sample.image_grid_thw[0].tolist()
    assert wide[2] > wide[1]


def test_pixels_are_those_of_the_file_in_their_range(tmp_path, tiny):
    Image.fromarray(np.full((64, 64, 3), (255, 0, 128), np.uint8)).save(tmp_path / "a.png")
    sample, _ = hand_written(tmp_path, tiny, datakit.row(width=64, height=64, objects=[]))
    # A row is 3 channels x 2 frames x 16 x 16 pixels.
    channels = sample.pixel_values.reshape(16, 3, -1)
    assert channels.dtype == torch.uint8
    assert [channels[:, k].unique().tolist() for k in range(3)] == [[255], [0], [128]]


def broken_template(tiny, old, new):
    encoder = datakit.encoder(tiny)
    processor = type(encoder.processor)(
        image_processor=encoder.processor.image_processor,
        tokenizer=encoder.processor.tokenizer,
        video_processor=encoder.processor.video_processor,
        chat_template=encoder.processor.chat_template.replace(old, new),
    )
    return replace(encoder, processor=processor)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>'", "its prompt is no prefix"),
        ("render(message.content) + '<|im_end|>'", "render(message.content)", "does not end an answer with <.im_end.>"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(tiny, old, new, reason):
    messages = [{"role": role, "content": [{"type": "text", "text": "a"}]} for role in ("user", "assistant")]
    assert datakit.encoder(tiny).segments(messages)
    with pytest.raises(InputError, match=reason):
        broken_template(tiny, old, new).segments(messages)
