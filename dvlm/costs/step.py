"""One micro-batch on the meta device: what is alive at its worst moment, and the operations of each part."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dvlm.costs.live import Live
from dvlm.costs.meta import Kernels
from dvlm.costs.work import PATCHES, Work
from dvlm.learning import losses
from dvlm.models import forward, towers
from dvlm.models.prefix import Reach

NOTHING = Reach()
WORD = 4  # bytes of a float32, in which losses and what trains are kept


@dataclass(frozen=True, kw_only=True)
class Step:
    """Bytes and FLOPs of one micro-batch, forward and backward.

    `activations` is what the step adds at its worst moment to weights, gradients and optimizer, of that `kept` for the
    backward pass. The FLOPs of each part are those of the student, but for `teacher`: (vision, language, head), each
    forward only.
    """

    activations: int
    kept: int
    vision: int
    language: int
    head: int
    backward: int
    teacher: tuple[int, int, int]

    @property
    def flops(self) -> int:
        """Of all parts."""
        return self.vision + self.language + self.head + self.backward + sum(self.teacher)


def simulate(
    student: Any,
    work: Work,
    *,
    low: torch.dtype | None,
    checkpointing: bool,
    teacher: Any = None,
    reach: Reach = NOTHING,
    cuda: bool = True,
) -> Step:
    """One step of `student` (on meta) on `work`; `teacher` is a model on meta, or the student itself: adapters off.

    `low` is the dtype of autocast, `reach` what the teacher takes over from the student; `cuda` has the tiles of the
    fused loss as a GPU has them.
    """
    live = Live()
    meter, kernels = Meter(live), Kernels(live, low)
    _checkpoint(student, kernels if checkpointing else None)
    with live:
        live.add(student.parameters())
        live.add(teacher.parameters() if teacher is not None else ())
        resident = live.restart()
        with torch.device("meta"), kernels:
            images = _vision(student, work, grad=not Reach.of(student).aligner)
            vision = meter.lap()
            theirs, costs = None, (0, 0, 0)
            if teacher is not None:
                theirs, costs = _teach(student, teacher, work, images, reach, meter)
            states = _language(student, work, images)[0, torch.empty(work.supervised, dtype=torch.long)]
            language = meter.lap()
            gradient = _head(student, states, teacher, theirs, cuda=cuda)
            kept = live.now - resident
            del images, theirs
        # Outside of `kernels`: a function mode is not there while `backward` runs, but for what `_checkpoint` asks.
        if states.requires_grad:
            states.backward(gradient)
        gradients = sum(p.grad.nbytes for p in student.parameters() if p.grad is not None)
        activations = live.peak - resident - gradients
    student.zero_grad()
    products = 1 + int(states.requires_grad) + int(_weight(student).requires_grad)
    return Step(
        activations=max(activations, kept),
        kept=kept,
        vision=vision,
        language=language,
        head=products * _product(student, work),
        backward=meter.lap(),
        teacher=costs,
    )


def _checkpoint(model: Any, kernels: Kernels | None) -> None:
    """Recompute activations on `kernels`, or keep them (None)."""
    inner = forward.core(model)
    if kernels is None:
        inner.activation_checkpointing_disable()
    else:
        again: dict[str, Any] = {"use_reentrant": False, "context_fn": lambda: (nullcontext(), kernels)}
        inner.activation_checkpointing_enable(again)


class Meter:
    """FLOPs since the last look."""

    def __init__(self, live: Live) -> None:
        self.live, self.last = live, live.flops

    def lap(self) -> int:
        """FLOPs since the last look."""
        done, self.last = self.live.flops - self.last, self.live.flops
        return done


def _vision(model: Any, work: Work, *, grad: bool) -> list[Tensor]:
    """The merged features, and those of every deepstack merger."""
    if not work.images:
        return []
    visual = forward.core(model).get_submodule(towers.VISUAL)
    patches, bounds = work.patches, torch.tensor([0, *work.images], device="cpu").cumsum(0).int() * PATCHES
    grid = torch.tensor([[1, 2, 2 * image] for image in work.images], device="cpu")
    pixels = torch.empty(patches, visual.patch_embed.proj.weight[0].numel())
    with torch.set_grad_enabled(grad):
        out = visual(
            pixels.to(visual.patch_embed.proj.weight.dtype),
            grid,
            interp_indices=torch.empty(patches, 4, dtype=torch.long),
            interp_weights=torch.empty(patches, 4),
            position_ids=torch.empty(patches, 2, dtype=torch.long),
            cu_seqlens=bounds,
        )
    return [out.pooler_output, *out.deepstack_features]


def _language(model: Any, work: Work, images: list[Tensor]) -> Tensor:
    """Last hidden states (1, L, H) of a pack."""
    inner = forward.core(model)
    ids = torch.empty(1, work.tokens, dtype=torch.long)
    embedded = inner.get_submodule(towers.EMBEDDINGS)(ids)
    if images:
        mask = torch.empty(1, work.tokens, 1, dtype=torch.bool).expand_as(embedded)
        embedded = embedded.masked_scatter(mask, images[0].to(embedded.dtype))
    bounds = torch.tensor([0, *work.samples], device="cpu").cumsum(0).int()
    text = inner.get_submodule(towers.LANGUAGE)
    out = text(
        inputs_embeds=embedded,
        position_ids=torch.empty(3, 1, work.tokens, dtype=torch.long),
        use_cache=False,
        cu_seq_lens_q=bounds,
        cu_seq_lens_k=bounds,
    )
    return out.last_hidden_state


@torch.no_grad()
def _teach(
    student: Any, teacher: Any, work: Work, images: list[Tensor], reach: Reach, meter: Meter
) -> tuple[Tensor, tuple[int, int, int]]:
    """The teacher's hidden states (S, Ht), and the FLOPs of its vision, language model and head; what it takes over
    costs nothing."""
    off = student.disable_adapter() if teacher is student else nullcontext()
    with off:
        own = images if reach.aligner else _vision(teacher, work, grad=False)
        vision = meter.lap()
        states = _language(teacher, work, own)[0, torch.empty(work.supervised, dtype=torch.long)]
        language = meter.lap()
    if reach.trunk and not reach.aligner:
        vision = _mergers(teacher, work)
    return states, (vision, round(language * (1 - untouched(teacher, reach))), _product(teacher, work))


def _mergers(model: Any, work: Work) -> int:
    """FLOPs of the aligner: 2 a weight of its matrices and image token."""
    members = towers.parameters(forward.core(model))[towers.Tower.ALIGNER]
    return 2 * sum(work.images) * sum(p.numel() for name, p in members if p.ndim == 2 and ".lora_" not in name)


def untouched(model: Any, reach: Reach) -> float:
    """Share of the layers of the language model that are taken over."""
    return reach.layers / len(forward.core(model).get_submodule(towers.LAYERS["llm"]))


def _weight(model: Any) -> Tensor:
    return forward.core(model).get_submodule(towers.HEAD).weight


def _product(model: Any, work: Work) -> int:
    """FLOPs of one product of S positions with the head: 2 S V H."""
    return 2 * work.supervised * _weight(model).numel()


def _head(student: Any, states: Tensor, teacher: Any, theirs: Tensor | None, *, cuda: bool) -> Tensor:
    """The gradient (S, H) of the fused loss; its buffers are there while this runs (`learning/fused.py`).

    For `chunk` positions the words' probabilities of student and teacher, three spare tiles of this chunk and three of
    the last, a widened tile of the weights where they are narrower and this is no GPU, and the gradients in float32.
    """
    positions, words = len(states), len(_weight(student))
    rows = -(-positions // -(-positions // losses.CHUNK))
    tile = min(losses.GPU_TILE if cuda else losses.TILE, words)
    models = [student] if theirs is None else [student, teacher]
    buffers = [torch.empty(rows * words) for _ in models] + [torch.empty(6 * rows * tile)]
    if not cuda:
        buffers += [torch.empty(tile, _weight(m).shape[1]) for m in models if _weight(m).dtype != torch.float32]
    gradients = [torch.empty(states.shape)] if states.requires_grad else []
    gradients += [torch.empty(_weight(student).shape)] if _weight(student).requires_grad else []
    del buffers
    return torch.empty_like(states)
