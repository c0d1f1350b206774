"""The part of a student's forward pass that is its base's: computed once, without a graph, for student and teacher.

pixels -> vision trunk -> aligner -> embeddings and first layers of the language model -> its other layers and norm

Up to the first module that trains, adapters on or off make no difference. `begin` goes as far as that (`Reach`),
`finish` takes it from there with the adapters as they are at the moment.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dvlm.models import forward, towers
from dvlm.models.towers import Tower
from dvlm.values import Batch


@dataclass(frozen=True)
class Reach:
    """How far nothing trains: through the `trunk` of the vision tower, its `aligner` too, and `layers` layers of the
    language model after them. Each needs the one before it."""

    trunk: bool = False
    aligner: bool = False
    layers: int = 0

    @classmethod
    def of(cls, model: nn.Module) -> Reach:
        """What the trainable parameters of a tuned model leave as it is."""
        training = {
            tower: [name for name, parameter in rows if parameter.requires_grad]
            for tower, rows in towers.parameters(model).items()
        }
        trunk = not training[Tower.VIT]
        aligner = trunk and not training[Tower.ALIGNER]
        layers = towers.untouched_layers(forward.core(model), training[Tower.LLM]) if aligner else 0
        return cls(trunk, aligner, layers)

    def __str__(self) -> str:
        if not self.trunk:
            return "nothing"
        parts = "vision features" if self.aligner else "vision trunk"
        return parts + (f", first {self.layers} layers of the language model" if self.layers else "")


@dataclass(frozen=True)
class Begun:
    """What `begin` has computed; an empty one means that `finish` starts from the pixels.

    `trunk`: the vision tower without its aligner; `images`: its features, as `forward.hidden_states` takes them;
    `hidden` (B, L, H): the input of the first layer that is left, of which `layers` are done.
    """

    trunk: Any = None
    images: dict[str, Any] | None = None
    hidden: Tensor | None = None
    layers: int = 0


@torch.no_grad()
def begin(model: Any, batch: Batch, reach: Reach) -> Begun:
    """The forward pass as far as `reach`."""
    if not reach.aligner:
        return Begun(trunk=_trunk(model, batch) if reach.trunk and batch.pixel_values is not None else None)
    images = forward.image_features(model, batch)
    if not reach.layers:
        return Begun(images=images)
    inner = forward.core(model).model
    text = inner.language_model
    first = _with(text, layers=nn.ModuleList(text.layers[: reach.layers]), norm=nn.Identity())
    hidden = forward.run(_with(inner, language_model=first), batch, images)
    return Begun(images=images, hidden=hidden, layers=reach.layers)


def finish(model: Any, batch: Batch, begun: Begun) -> Tensor:
    """Last hidden states (B, L, H) of the language model, from where `begun` stopped."""
    if begun.hidden is not None:
        return _last_layers(forward.core(model).model, batch, begun)
    if begun.trunk is not None:
        return forward.hidden_states(model, batch, _aligned(model, batch, begun.trunk))
    return forward.hidden_states(model, batch, begun.images or forward.image_features(model, batch))


def _trunk(model: Any, batch: Batch) -> Any:
    """The vision tower with nothing in the place of its mergers: the states that each of them would get."""
    visual = forward.core(model).model.visual
    bare = nn.ModuleList(nn.Identity() for _ in visual.deepstack_merger_list)
    trunk = _with(visual, merger=nn.Identity(), deepstack_merger_list=bare)
    return trunk(forward.pixels(visual, batch), grid_thw=batch.image_grid_thw, return_dict=True)


def _aligned(model: Any, batch: Batch, trunk: Any) -> dict[str, Any]:
    """The features of the images from the states of the trunk, through the aligner as it is at the moment."""
    assert batch.image_grid_thw is not None
    visual = forward.core(model).model.visual
    sizes = (batch.image_grid_thw.prod(-1) // visual.spatial_merge_size**2).tolist()
    mergers = zip(visual.deepstack_merger_list, trunk.deepstack_features, strict=True)
    features = copy.copy(trunk)
    features.pooler_output = torch.split(visual.merger(trunk.pooler_output), sizes)
    features.deepstack_features = [torch.split(merger(states), sizes) for merger, states in mergers]
    return {"image": features}


def _last_layers(inner: Any, batch: Batch, begun: Begun) -> Tensor:
    """The layers that are left; the features of the images that come in between them (deepstack) among them."""
    text, visual = inner.language_model, {}
    shown = begun.images if not batch.dummy_image else None
    deep = shown["image"].deepstack_features[begun.layers :] if shown else []
    if deep:
        visual = {
            "visual_pos_masks": batch.input_ids == inner.config.image_token_id,
            "deepstack_visual_embeds": [torch.cat(features) for features in deep],
        }
    rest = _with(text, layers=nn.ModuleList(text.layers[begun.layers :]))
    out = rest(inputs_embeds=begun.hidden, **forward.layout(inner, batch), **visual)
    return out.last_hidden_state


def _with(module: Any, **children: nn.Module) -> Any:
    """The same module, weights and hooks shared, with other children in the place of those named."""
    view = copy.copy(module)
    view._modules = {**module._modules, **children}
    return view
