"""`packed_sdpa`: scaled dot-product attention sample by sample, for packs without flash attention.

Plain sdpa would build a dense mask of L x L for a pack of L tokens and compute every score between samples that may not
see each other. Without `cu_seq_lens_q` it is transformers' own sdpa: padded batches and generation do not notice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed_sdpa"


def packed_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    cu_seq_lens_q: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of (B, heads, L, head_dim); with `cu_seq_lens_q` (samples + 1,) B is 1 and samples stay apart."""
    if cu_seq_lens_q is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    lengths = (cu_seq_lens_q[1:] - cu_seq_lens_q[:-1]).tolist()
    samples = zip(*(tensor.split(lengths, 2) for tensor in (query, key, value)), strict=True)
    outputs = [sdpa_attention_forward(module, q, k, v, None, **options)[0] for q, k, v in samples]
    return torch.cat(outputs, 1), None


def register() -> None:
    """Make the name known to transformers; doing so twice does no harm."""
    AttentionInterface.register(NAME, packed_sdpa)
    AttentionMaskInterface.register(NAME, sdpa_mask)
