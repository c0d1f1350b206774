"""The fused loss against a naive one that is written here, on its own, from the formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dvlm.learning import fused, losses
from dvlm.learning.divergence import Divergence
from dvlm.learning.losses import HeadLoss, LossHead, head_loss

torch.set_num_threads(1)
V, H, HT, S = 97, 12, 7, 23


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 40 words: two whole ones and a rest."""
    monkeypatch.setattr(losses, "TILE", 40)


def batch(dtype: torch.dtype = torch.float64, scale: float = 1.0, seed: int = 0) -> dict[str, Tensor]:
    """Hidden states, heads of different hidden sizes and targets."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return (scale * torch.randn(*shape, generator=draw, dtype=torch.float64)).to(dtype)

    return {
        "hidden": normal(S, H).requires_grad_(),
        "weight": normal(V, H).requires_grad_(),
        "targets": torch.randint(V, (S,), generator=draw),
        "teacher_hidden": normal(S, HT),
        "teacher_weight": normal(V, HT),
    }


def naive_divergence(student: Tensor, teacher: Tensor, kind: str, mix: float) -> Tensor:
    """D of each position from logits, by the generalised JSD of TRL (mix 0 and 1: the full KLs)."""
    log_p, log_q = student.log_softmax(-1), teacher.log_softmax(-1)
    if kind == "forward_kl" or (kind == "jsd" and mix == 0):
        return F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)
    if kind == "reverse_kl" or (kind == "jsd" and mix == 1):
        return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    weights = torch.tensor([1 - mix, mix], dtype=student.dtype).log()
    log_m = torch.logsumexp(torch.stack([log_p + weights[0], log_q + weights[1]]), 0)
    to_teacher = F.kl_div(log_m, log_q, reduction="none", log_target=True).sum(-1)
    to_student = F.kl_div(log_m, log_p, reduction="none", log_target=True).sum(-1)
    return mix * to_teacher + (1 - mix) * to_student


def naive(
    b: dict[str, Tensor], alpha: float, beta: float, kind: str, mix: float, tau: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, CE and D, from full logits and by autograd."""
    student = b["hidden"] @ b["weight"].t()
    teacher = b["teacher_hidden"] @ b["teacher_weight"].t()
    ce = F.cross_entropy(student, b["targets"], reduction="none")
    d = naive_divergence(student / tau, teacher / tau, kind, mix)
    keep = torch.ones(S, dtype=torch.bool) if mask is None else mask
    return alpha * ce[keep].sum() + beta * d.sum(), ce, d


def grads(loss: Tensor, b: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Gradients with respect to hidden states and head."""
    return torch.autograd.grad(loss, (b["hidden"], b["weight"]))


KINDS = [("forward_kl", 0.5), ("reverse_kl", 0.5)] + [("jsd", mix) for mix in (0.0, 0.1, 0.5, 0.9, 1.0)]


@pytest.mark.parametrize("tau", [0.7, 1.0, 2.0])
@pytest.mark.parametrize(("kind", "mix"), KINDS)
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (0.3, 0.5)])
def test_equals_naive_in_fp64(kind: str, mix: float, tau: float, alpha: float, beta: float) -> None:
    b = batch()
    mine = head_loss(
        **b, sft_alpha=alpha, beta=beta, divergence=Divergence(kind), jsd_mix=mix, temperature=tau, chunk=5
    )
    loss, ce, d = naive(b, alpha, beta, kind, mix, tau)
    torch.testing.assert_close(mine.loss, loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(mine.ce, ce.detach(), atol=1e-9, rtol=0)
    torch.testing.assert_close(mine.divergence, d.detach(), atol=1e-9, rtol=0)
    for got, want in zip(grads(mine.loss, b), grads(loss, b), strict=True):
        torch.testing.assert_close(got, want, atol=1e-9, rtol=0)


@pytest.mark.parametrize("tau", [1.0, 2.0])
@pytest.mark.parametrize(("kind", "mix"), [("forward_kl", 0.5), ("reverse_kl", 0.5), ("jsd", 0.3)])
def test_gradcheck(kind: str, mix: float, tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "TILE", 4)
    draw = torch.Generator().manual_seed(0)
    hidden, weight, teacher_hidden, teacher_weight = (
        torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((5, 3), (11, 3), (5, 2), (11, 2))
    )

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        teacher = {"teacher_hidden": teacher_hidden, "teacher_weight": teacher_weight, "temperature": tau, "beta": 0.7}
        options = {"sft_alpha": 0.4, "divergence": Divergence(kind), "jsd_mix": mix, "chunk": 2}
        return head_loss(hidden, weight, torch.tensor([0, 3, 4, 7, 10]), **teacher, **options).loss

    assert torch.autograd.gradcheck(loss, (hidden.requires_grad_(), weight.requires_grad_()))


@pytest.mark.parametrize(("kind", "mix"), KINDS)
def test_equals_naive_in_fp32(kind: str, mix: float) -> None:
    b = batch(torch.float32, scale=0.5)
    mine = head_loss(**b, sft_alpha=1.0, beta=0.5, divergence=Divergence(kind), jsd_mix=mix)
    loss, _, d = naive(b, 1.0, 0.5, kind, mix, 1.0)
    torch.testing.assert_close(mine.loss, loss, atol=0, rtol=1e-5)
    torch.testing.assert_close(mine.divergence, d.detach(), atol=1e-5, rtol=1e-5)
    for got, want in zip(grads(mine.loss, b), grads(loss, b), strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", list(Divergence))
def test_without_teacher_it_is_cross_entropy(kind: Divergence) -> None:
    b = batch()
    alone = {key: b[key] for key in ("hidden", "weight", "targets")}
    mine = head_loss(**alone, divergence=kind)
    want = F.cross_entropy(b["hidden"] @ b["weight"].t(), b["targets"], reduction="sum")
    torch.testing.assert_close(mine.loss, want)
    for got, expected in zip(grads(mine.loss, b), grads(want, b), strict=True):
        torch.testing.assert_close(got, expected)
    assert mine.divergence is None
    assert mine.kl_sum is None
    assert mine.agreement is None


def test_metrics() -> None:
    b = batch()
    mine = head_loss(**b, beta=0.1, temperature=2.0)
    student = (b["hidden"] @ b["weight"].t()).detach()
    teacher = b["teacher_hidden"] @ b["teacher_weight"].t()
    probs = student.softmax(-1)
    torch.testing.assert_close(mine.entropy, -(probs * student.log_softmax(-1)).sum(-1))
    assert torch.equal(mine.hit, student.argmax(-1) == b["targets"])
    assert torch.equal(mine.agree, student.argmax(-1) == teacher.argmax(-1))
    assert mine.positions == S
    assert int(mine.ce_count) == S
    torch.testing.assert_close(mine.sft_sum, mine.ce.sum())
    torch.testing.assert_close(mine.sft_sum + 0.1 * mine.kl_sum, mine.loss.detach())
    torch.testing.assert_close(mine.entropy_sum, mine.entropy.sum())
    assert not any(tensor.requires_grad for tensor in mine[1:])


def test_hits_and_agreement_are_found() -> None:
    b = batch()
    logits = b["hidden"] @ b["weight"].t()
    itself = {**b, "teacher_hidden": b["hidden"].detach(), "teacher_weight": b["weight"].detach()}
    mine = head_loss(**{**itself, "targets": logits.argmax(-1)}, beta=1.0)
    assert int(mine.correct) == S
    assert int(mine.agreement) == S


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [Divergence.FORWARD_KL, Divergence.REVERSE_KL])
def test_the_teacher_itself_is_at_distance_zero(kind: Divergence, dtype: torch.dtype) -> None:
    b = batch(dtype)
    itself = {**b, "teacher_hidden": b["hidden"].detach(), "teacher_weight": b["weight"].detach()}
    mine = head_loss(**itself, sft_alpha=0.0, beta=1.0, divergence=kind)
    assert mine.divergence.abs().max() == 0
    assert all(grad.abs().max() == 0 for grad in grads(mine.loss, b))


@pytest.mark.parametrize(("kind", "mix"), KINDS)
@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_huge_logits_stay_finite(kind: str, mix: float, tau: float) -> None:
    b = batch(torch.float32, scale=12.0)
    mine = head_loss(**b, beta=0.5, divergence=Divergence(kind), jsd_mix=mix, temperature=tau)
    loss, _, d = naive(
        {key: t.double() if t.is_floating_point() else t for key, t in b.items()}, 1, 0.5, kind, mix, tau
    )
    torch.testing.assert_close(mine.loss.double(), loss, atol=0, rtol=1e-5)
    assert all(grad.isfinite().all() for grad in grads(mine.loss, b))


@pytest.mark.parametrize("kind", list(Divergence))
@pytest.mark.parametrize("tau", [1.0, 0.7])
def test_chunks_and_tiles_do_not_matter(kind: Divergence, tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    b = batch()

    def run(chunk: int, tile: int) -> tuple[Tensor, ...]:
        monkeypatch.setattr(losses, "TILE", tile)
        mine = head_loss(**b, beta=0.5, divergence=kind, temperature=tau, chunk=chunk)
        return mine.loss, mine.ce, mine.divergence, mine.entropy, mine.hit, mine.agree, *grads(mine.loss, b)

    whole = run(chunk=S, tile=V)
    for chunk, tile in ((1, V), (7, 40), (S + 5, 32), (S - 1, 96)):
        for got, want in zip(run(chunk, tile), whole, strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("kind", list(Divergence))
def test_bf16_inputs_are_computed_in_fp32(kind: Divergence) -> None:
    b = batch(torch.bfloat16, scale=0.5)
    wide = {key: t.detach().float().requires_grad_() if t.is_floating_point() else t for key, t in b.items()}
    mine, want = (head_loss(**inputs, beta=0.5, divergence=kind) for inputs in (b, wide))
    assert mine.loss.dtype == mine.divergence.dtype == torch.float32
    torch.testing.assert_close(mine.loss, want.loss, atol=0, rtol=1e-6)
    for got, expected in zip(grads(mine.loss, b), grads(want.loss, wide), strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got, expected.bfloat16())


def test_autocast_changes_nothing() -> None:
    b = batch(torch.float32)
    plain = head_loss(**b, beta=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        mine = head_loss(**b, beta=0.5)
    assert torch.equal(plain.loss, mine.loss)
    assert torch.equal(grads(plain.loss, b)[0], grads(mine.loss, b)[0])


def test_student_and_teacher_may_differ_in_dtype() -> None:
    b = batch(torch.float32)
    cached = {**b, "teacher_hidden": b["teacher_hidden"].bfloat16(), "teacher_weight": b["teacher_weight"].bfloat16()}
    rounded = {**cached, **{key: cached[key].float() for key in ("teacher_hidden", "teacher_weight")}}
    torch.testing.assert_close(head_loss(**cached, beta=1.0).loss, head_loss(**rounded, beta=1.0).loss)


class Largest(TorchDispatchMode):
    """The most elements of any tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


@pytest.mark.parametrize("kind", list(Divergence))
def test_the_logits_of_all_positions_never_exist(kind: Divergence) -> None:
    b = batch()
    b["weight"].requires_grad_(False)
    with Largest() as largest:
        head_loss(**b, beta=0.5, divergence=kind, temperature=2.0, chunk=6).loss.backward()
    assert largest.elements <= 6 * max(V, 3 * 40)  # the chunk, or its three spare tiles
    with Largest() as largest:
        naive(b, 1.0, 0.5, kind, 0.5, 2.0)
    assert largest.elements >= S * V


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", list(Divergence))
def test_bf16_on_a_gpu(kind: Divergence) -> None:
    b = batch(torch.bfloat16, scale=0.5)
    there = {key: t.detach().cuda().requires_grad_(t.requires_grad) for key, t in b.items()}
    want, mine = (head_loss(**inputs, beta=0.5, divergence=kind) for inputs in (b, there))
    torch.testing.assert_close(mine.loss.cpu(), want.loss, atol=0, rtol=1e-5)
    for got, expected in zip(grads(mine.loss, there), grads(want.loss, b), strict=True):
        torch.testing.assert_close(got.cpu(), expected, atol=1e-2, rtol=2e-2)


def test_a_frozen_head_gets_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    b = batch()
    b["weight"].requires_grad_(False)
    sizes: list[tuple[int, ...]] = []
    zeros = torch.zeros_like
    monkeypatch.setattr(torch, "zeros_like", lambda t, **kw: sizes.append(tuple(t.shape)) or zeros(t, **kw))
    head_loss(**b, beta=0.5).loss.backward()
    assert b["weight"].grad is None
    assert b["hidden"].grad is not None
    assert (S, H) in sizes
    assert (V, H) not in sizes


def test_only_the_head_may_be_trained() -> None:
    b = batch()
    want = torch.autograd.grad(head_loss(**b, beta=0.5).loss, b["weight"])[0]
    b["hidden"] = b["hidden"].detach()
    head_loss(**b, beta=0.5).loss.backward()
    torch.testing.assert_close(b["weight"].grad, want)


def test_nothing_of_the_gradient_is_computed_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    b = batch()
    want = head_loss(**b, beta=0.5)

    def forbidden(*_: object) -> None:
        raise AssertionError("a gradient was computed")

    monkeypatch.setattr(fused.Chunk, "gradients", forbidden)
    with torch.no_grad():
        mine = head_loss(**b, beta=0.5)
    assert torch.equal(mine.loss, want.loss)
    assert not mine.loss.requires_grad


def test_backward_scales_and_may_run_twice() -> None:
    b = batch()
    loss = head_loss(**b, beta=0.5).loss
    once = torch.autograd.grad(loss, b["hidden"], retain_graph=True)[0]
    thrice = torch.autograd.grad(3 * loss, b["hidden"])[0]
    torch.testing.assert_close(thrice, 3 * once)


def test_masked_positions_have_divergence_but_no_ce() -> None:
    b = batch()
    mask = torch.arange(S) % 3 != 0
    ignored = {**b, "targets": torch.where(mask, b["targets"], -100)}
    mine = head_loss(**ignored, sft_alpha=0.3, beta=0.5, ce_mask=mask, chunk=4)
    loss, ce, d = naive(b, 0.3, 0.5, "forward_kl", 0.5, 1.0, mask)
    torch.testing.assert_close(mine.loss, loss)
    torch.testing.assert_close(mine.sft_sum, ce[mask].sum().detach())
    torch.testing.assert_close(mine.kl_sum, d.sum().detach())
    assert int(mine.ce_count) == int(mask.sum())
    assert int(mine.correct) == int((mine.hit & mask).sum())
    for got, want in zip(grads(mine.loss, b), grads(loss, b), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("with_teacher", [False, True])
def test_no_positions(with_teacher: bool) -> None:
    b = batch()
    empty = {"hidden": b["hidden"][:0], "weight": b["weight"], "targets": b["targets"][:0]}
    if with_teacher:
        empty |= {"teacher_hidden": b["teacher_hidden"][:0], "teacher_weight": b["teacher_weight"]}
    mine = head_loss(**empty, beta=0.5 if with_teacher else 0.0)
    mine.loss.backward()
    assert float(mine.loss.detach()) == 0
    assert mine.positions == int(mine.ce_count) == int(mine.correct) == 0
    assert (mine.agreement is None) != with_teacher
    assert torch.equal(b["hidden"].grad, torch.zeros_like(b["hidden"]))
    assert torch.equal(b["weight"].grad, torch.zeros_like(b["weight"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": torch.zeros(S, H + 1)}, "hidden"),
        ({"hidden": torch.zeros(1, S, H)}, "hidden"),
        ({"targets": torch.zeros(S + 1, dtype=torch.long)}, "target"),
        ({"ce_mask": torch.ones(S)}, "ce_mask"),
        ({"teacher_hidden": torch.zeros(S, HT + 1)}, "teacher_hidden"),
        ({"teacher_hidden": torch.zeros(S - 1, HT)}, "positions"),
        ({"teacher_weight": torch.zeros(V + 1, HT)}, "vocabulary"),
        ({"teacher_weight": None}, "both"),
        ({"teacher_weight": None, "teacher_hidden": None}, "beta"),
        ({"beta": -0.1}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"sft_alpha": -1.0}, "sft_alpha"),
        ({"temperature": 0.0}, "temperature"),
        ({"jsd_mix": 1.1}, "jsd_mix"),
        ({"chunk": 0}, "chunk"),
        ({"divergence": "hellinger"}, "hellinger"),
    ],
)
def test_errors_name_what_is_wrong(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head_loss(**{**batch(), "beta": 0.5, **changes})


class TestLossHead:
    """The head module that returns logits or the loss."""

    def test_it_takes_the_place_of_a_tied_head(self) -> None:
        model = nn.ModuleDict({"embed": nn.Embedding(V, H), "lm_head": nn.Linear(H, V, bias=False)})
        model["lm_head"].weight = model["embed"].weight
        before = list(model.state_dict())
        model["lm_head"] = LossHead.of(model["lm_head"])
        assert model["lm_head"].weight is model["embed"].weight
        assert list(model.state_dict()) == before

    def test_logits_and_loss(self) -> None:
        b = batch(torch.float32)
        linear = nn.Linear(H, V, bias=False)
        head = LossHead.of(linear)
        assert torch.equal(head(b["hidden"]), linear(b["hidden"]))
        mine = head(b["hidden"], b["targets"], teacher_hidden=b["hidden"].detach(), beta=1.0)
        assert isinstance(mine, HeadLoss)
        assert float(mine.kl_sum) == 0
        torch.testing.assert_close(mine.sft_sum, F.cross_entropy(linear(b["hidden"]), b["targets"], reduction="sum"))

    def test_hooks_find_the_loss_in_what_it_returns(self) -> None:
        b = batch(torch.float32)
        out = LossHead.of(nn.Linear(H, V, bias=False))(b["hidden"], b["targets"])
        assert [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.requires_grad] == [out.loss]

    def test_a_bias_is_refused(self) -> None:
        with pytest.raises(ValueError, match="bias"):
            LossHead.of(nn.Linear(H, V))
