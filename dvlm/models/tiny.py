"""A whole Qwen3-VL of about a million random parameters, built on the spot: for smoke runs, tests and demonstrations.

The directory is an ordinary checkpoint: `Qwen3VLForConditionalGeneration.from_pretrained` and
`AutoProcessor.from_pretrained` read it offline. Only its size, its weights and the generation marks in its chat
template differ from a released one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvlm import durable
from dvlm.models import tiny_tokenizer as text

if TYPE_CHECKING:
    import torch
    from transformers import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration

# Part of the directory's name: raise it whenever the same spec would give other files.
CONTENT_VERSION = 1
PATCH, MERGE, TEMPORAL_PATCH = 16, 2, 2


@dataclass(frozen=True, kw_only=True)
class TinySpec:
    """The sizes of a tiny model. Pixel limits are pixel counts of one image, as the processor's `size` has them.

    The head sizes must suit rotary positions: the text's even and at least 12, the vision's divisible by four.
    """

    merges: int = 350
    hidden: int = 128
    intermediate: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    vision_hidden: int = 48
    vision_intermediate: int = 96
    vision_depth: int = 6
    vision_heads: int = 3
    deepstack: tuple[int, ...] = (1, 2, 4)
    position_side: int = 16
    min_pixels: int = 32 * 32
    max_pixels: int = 1024 * 1024
    embedding_std: float = 0.08

    def __post_init__(self) -> None:
        vision_head_dim, rest = divmod(self.vision_hidden, self.vision_heads)
        if rest or vision_head_dim % 4:
            raise ValueError(
                f"vision_hidden / vision_heads must be a multiple of 4, got {self.vision_hidden} / {self.vision_heads}"
            )
        if self.head_dim % 2 or self.head_dim < 12:
            raise ValueError(f"head_dim must be even and at least 12, got {self.head_dim}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads must be a multiple of kv_heads, got {self.heads} and {self.kv_heads}")
        if any(not 0 <= index < self.vision_depth for index in self.deepstack) or len(self.deepstack) > self.layers:
            raise ValueError(
                f"deepstack must name at most {self.layers} (layers) of the blocks 0..{self.vision_depth - 1} "
                f"(vision_depth - 1), got {self.deepstack}"
            )
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ValueError(f"need 0 < min_pixels <= max_pixels, got {self.min_pixels} and {self.max_pixels}")

    @property
    def mrope_section(self) -> list[int]:
        """How many of the head_dim / 2 frequencies carry time, height and width: time takes what three cannot share."""
        half = self.head_dim // 2
        return [half - 2 * (half // 3), half // 3, half // 3]


def prepare(root: Path, *, seed: int = 17, tie: bool = True, spec: TinySpec | None = None) -> Path:
    """The checkpoint directory `root/tiny-<hash>`, built when it is not there yet (0.3 s after the imports).

    It appears by rename, so it is whole or absent, and processes that build it at once all end up with one directory.
    `tie` shares the head with the embeddings. The random state of the caller is left as it was.
    """
    spec = spec or TinySpec()
    target = Path(root) / f"tiny-{_fingerprint(seed=seed, tie=tie, spec=spec)}"
    if target.is_dir():
        return target
    durable.clean(target.parent)
    with durable.appearing(target, shared=True) as built:
        built.mkdir()
        _write(built, seed=seed, tie=tie, spec=spec)
    return target


def _fingerprint(*, seed: int, tie: bool, spec: TinySpec) -> str:
    facts = [CONTENT_VERSION, seed, tie, asdict(spec), text.CHAT_TEMPLATE, text.PRETOKENIZER, text.corpus()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _write(directory: Path, *, seed: int, tie: bool, spec: TinySpec) -> None:
    from transformers import GenerationConfig

    tokenizer = _tokenizer(spec)
    model = _model(_config(tokenizer, tie=tie, spec=spec), seed=seed, spec=spec)
    ids = tokenizer.get_vocab()
    # Sampling, as the released checkpoints have it: whoever wants greedy decoding has to say so there, too.
    model.generation_config = GenerationConfig(
        bos_token_id=ids[text.END_OF_TEXT],
        eos_token_id=[ids[text.END_OF_TURN], ids[text.END_OF_TEXT]],
        pad_token_id=ids[text.END_OF_TEXT],
        do_sample=True,
        temperature=0.7,
        top_p=0.8,
        top_k=20,
    )
    model.save_pretrained(directory)
    # The weights' writer leaves them to their owner alone; others may read them as they may read the rest.
    (directory / "model.safetensors").chmod((directory / "config.json").stat().st_mode)
    _save_processor(directory, tokenizer, spec)


def _tokenizer(spec: TinySpec) -> Qwen2Tokenizer:
    from transformers import Qwen2Tokenizer

    settings: dict[str, Any] = {
        "eos_token": text.END_OF_TURN,
        "pad_token": text.END_OF_TEXT,
        "unk_token": None,
        "additional_special_tokens": list(text.CONTROL_TOKENS[1:]),
        "model_max_length": 262144,
    }
    return Qwen2Tokenizer(tokenizer_object=text.train(spec.merges), **settings)


def _config(tokenizer: Qwen2Tokenizer, *, tie: bool, spec: TinySpec) -> Qwen3VLConfig:
    from transformers import Qwen3VLConfig

    ids = tokenizer.get_vocab()
    text_config: dict[str, Any] = {
        # A few rows more than there are tokens, as in the released checkpoints.
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "hidden_size": spec.hidden,
        "intermediate_size": spec.intermediate,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "max_position_embeddings": 32768,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_interleaved": True,
            "mrope_section": spec.mrope_section,
        },
        "bos_token_id": ids[text.END_OF_TEXT],
        "eos_token_id": ids[text.END_OF_TURN],
        "tie_word_embeddings": tie,
    }
    vision_config: dict[str, Any] = {
        "depth": spec.vision_depth,
        "hidden_size": spec.vision_hidden,
        "intermediate_size": spec.vision_intermediate,
        "num_heads": spec.vision_heads,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": TEMPORAL_PATCH,
        "out_hidden_size": spec.hidden,
        "num_position_embeddings": spec.position_side**2,
        "deepstack_visual_indexes": list(spec.deepstack),
    }
    return Qwen3VLConfig(
        text_config=text_config,
        vision_config=vision_config,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=tie,
        dtype="float32",
    )


def _model(config: Qwen3VLConfig, *, seed: int, spec: TinySpec) -> Qwen3VLForConditionalGeneration:
    """Weights by transformers' own initialisation, but for the embeddings (and an untied head).

    At the usual 0.02 no logit of so narrow a model could get large enough for its loss to fall.
    """
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config).float()
        _redraw(model.get_input_embeddings().weight, spec.embedding_std)
        if not config.tie_word_embeddings:
            _redraw(model.lm_head.weight, spec.embedding_std)
    return model


def _redraw(weight: torch.Tensor, std: float) -> None:
    import torch

    torch.nn.init.normal_(weight, std=std)


def _save_processor(directory: Path, tokenizer: Qwen2Tokenizer, spec: TinySpec) -> None:
    """`processor_config.json` holds everything; the two older files are for tools that read only those."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    vision: dict[str, Any] = {
        "patch_size": PATCH,
        "merge_size": MERGE,
        "temporal_patch_size": TEMPORAL_PATCH,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "size": {"shortest_edge": spec.min_pixels, "longest_edge": spec.max_pixels},
    }
    images = Qwen2VLImageProcessor(**vision)
    videos = Qwen3VLVideoProcessor(**vision)
    for part in (images, videos):
        part.save_pretrained(directory)
    processor = Qwen3VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=text.CHAT_TEMPLATE
    )
    processor.save_pretrained(directory)
