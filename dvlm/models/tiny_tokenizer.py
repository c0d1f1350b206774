"""The tiny model's text side: its corpus, its tokenizer and its chat template.

The tokenizer is Qwen's in everything but size: NFC, the same pre-tokenizer (digits one by one), byte-level BPE and the
same 26 added tokens in the same order. Any text in NFC survives a round trip. Nothing here imports torch or
transformers.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
CONTROL_TOKENS = (
    END_OF_TEXT,
    "<|im_start|>",
    END_OF_TURN,
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Qwen adds these too, but skip_special_tokens leaves them in decoded text.
PLAIN_ADDED_TOKENS = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)

PRETOKENIZER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Qwen3-VL's ChatML. The generation marks, which the released template lacks, let a processor say what the assistant
# wrote.
CHAT_TEMPLATE = """\
{%- macro render(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- else -%}
        {%- for item in content -%}
            {%- if item.type == 'image' or 'image' in item or 'image_url' in item -%}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
            {%- elif item.type == 'video' or 'video' in item -%}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
            {%- elif 'text' in item -%}
                {{- item.text -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
            {{- render(message.content) + '<|im_end|>' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- render(message.content) + '<|im_end|>' -}}
    {%- endif -%}
    {{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

_TYPES = ("BBU设备", "光模块", "线缆", "标签", "螺丝", "光纤", "电线", "挡风板", "机柜空间", "站点距离", "接地线")
_ATTRIBUTES = {
    "品牌": ("华为", "中兴", "爱立信", "诺基亚", "大唐"),
    "型号": ("5900", "V9200", "AirScale", "6630"),
    "颜色": ("黄色", "蓝色", "绿色", "红色", "黑色", "白色", "灰色", "橙色"),
    "文字": ("BBU", "RRU", "LTE", "NR", "GPS", "无法识别"),
    "安装": ("符合要求", "不符合要求", "已插入", "未插入", "有保护", "弯曲半径合理"),
}
_STATES = ("显示完整", "只显示部分", "无需安装")
# One token each, as in Qwen's vocabulary.
_ROLES = "system\nuser\nassistant\n"
_PROSE = (
    "请描述图片中的所有物体",
    "请用一行文字总结每张图片",
    "请用一行文字概括图片中的物体和数量",
    "你是通信机柜质检助手。请按从上到下、从左到右的顺序列出图片中的物体，并输出JSON，坐标归一化到0到1000的整数。",
    "你是通信机柜检查员，只输出一个JSON对象，键为图片编号，值为物体列表或一行总结。",
    "You are a helpful assistant. Describe all objects in the image, output JSON only.",
    "通过\n理由: 所有设备安装规范，无明显问题",
    "不通过\n理由: 线缆未绑扎，标签缺失，需要整改",
)


def corpus() -> list[str]:
    """The training texts: answers of every form, summaries and prompts. Coordinates are digits, which never merge."""
    keyed = [f"{key}:{value}" for key, values in _ATTRIBUTES.items() for value in values]
    descs = [f"{kind}/{attribute}" for kind in _TYPES for attribute in (*keyed, *_STATES, *_STATES)]
    geometries = (
        '"bbox_2d": [{0}, {1}, {2}, {3}]',
        '"quad": [{0}, {1}, {2}, {1}, {2}, {3}, {0}, {3}]',
        '"line": [{0}, {1}]',
    )
    answers = []
    for index, (desc, geometry) in enumerate(product(descs, geometries)):
        place = geometry.format(*(index * step % 1001 for step in (1, 7, 31, 101)))
        other = descs[(index * 13 + 5) % len(descs)].split("/", 1)[1]
        answers.append(
            f'{{"图片_1": [{{{place}, "desc": "{desc}/{other}"}}, {{{place}, "desc": "{desc}"}}], "图片_2": []}}'
        )
    summaries = [f'{{"图片_1": "{a}×1/{b}×3", "图片_2": "{b}×2"}}' for a, b in product(_TYPES, repeat=2)]
    return [*answers, *summaries, *(text for text in _PROSE for _ in range(30)), *[_ROLES] * 200]


def train(merges: int) -> Tokenizer:
    """A tokenizer of 256 bytes + `merges` learned tokens + 26 added ones; the same bytes every time."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZER), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + merges, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    if tokenizer.get_vocab_size() != len(alphabet) + merges:
        most = tokenizer.get_vocab_size() - len(alphabet)
        raise ValueError(f"merges={merges} is more than the corpus holds; ask for at most {most}")
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in PLAIN_ADDED_TOKENS])
    return tokenizer
