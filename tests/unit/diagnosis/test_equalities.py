"""Every check passes on a sound model, and fails when the real part that it looks at is broken."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear
from support import CACHE
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from dvlm import assembly, doctor
from dvlm.config.compose import compose
from dvlm.costs.estimate import foretold
from dvlm.diagnosis import equalities, speed
from dvlm.diagnosis.equalities import Patient
from dvlm.diagnosis.finding import Finding
from dvlm.models import attention, forward, generate, load, tuning

KNOBS = (
    f"cache_dir={CACHE}",
    "data.demo.train=24",
    "data.demo.val=6",
    "data.sample_limit=4",
    "data.max_pixels=16384",
    "tuner.lora_rank=8",
    "rlhf=gkd_forward",
    "timed_steps=1",
)


def patient() -> Patient:
    """A fresh one: the attention that it uses is looked up when it is loaded."""
    config = assembly.prepare(compose("doctor", list(KNOBS)))
    data = assembly.build_data(config)
    model: Any = load.load_model(config.model, packing=True)
    names = [name for pack in data.train_plan.packs for name in pack.samples][:2]
    samples = [data.train_line.sample(*name) for name in names]
    base = [equalities.logits(model, equalities.batch_of([sample], model)) for sample in samples]
    tuned = tuning.tune(model, config.tuner, seed=17)
    equalities.moved(tuned.model, 17)
    tokenizer = data.encoder.processor.tokenizer
    return Patient(tuned=tuned, samples=samples, base=base, tokenizer=tokenizer, dtype="float32")


@pytest.fixture(scope="module")
def sound() -> Patient:
    return patient()


@pytest.fixture(autouse=True)
def _attention_again():
    yield
    attention.register()


def test_a_sound_model_passes(sound):
    findings = equalities.check(sound)
    assert len(findings) == 5
    assert not [each for each in findings if not each.passed]
    assert (
        equalities.apart(
            sound.base[0], equalities.logits(sound.model, equalities.batch_of(sound.samples[:1], sound.model))
        )
        > 0.05
    )


def blind(module: Any, query: Any, key: Any, value: Any, mask: Any, cu_seq_lens_q: Any = None, **options: Any) -> Any:
    """Attention that does not know where a sample of a pack ends."""
    return sdpa_attention_forward(module, query, key, value, mask, **options)


@contextmanager
def nothing(self: Any):
    """Adapters that stay on."""
    yield


def sabotage(kind: str, patched: pytest.MonkeyPatch) -> None:
    """Break the real part that one check looks at."""
    if kind == "packed = separate":
        patched.setattr(attention, "packed_sdpa", blind)
        attention.register()
    elif kind == "shared features = plain":
        real = forward.image_features

        def dimmed(model: Any, batch: Any) -> Any:
            features = real(model, batch)
            features["image"].pooler_output = [each * 0.8 for each in features["image"].pooler_output]
            return features

        patched.setattr(forward, "image_features", dimmed)
    elif kind == "adapters off = base":
        patched.setattr("peft.PeftModel.disable_adapter", nothing)
    elif kind == "merged = adapted":
        delta = Linear.get_delta_weight
        patched.setattr(Linear, "get_delta_weight", lambda self, adapter: 2 * delta(self, adapter))
    elif kind == "batched generation = single":

        def right(self: Any, rows: Any, fill: int) -> torch.Tensor:
            return torch.stack([torch.nn.functional.pad(row, (0, self.width - len(row)), value=fill) for row in rows])

        patched.setattr(generate._Padded, "_stack", right)


@pytest.mark.parametrize(
    "kind",
    [
        "packed = separate",
        "shared features = plain",
        "adapters off = base",
        "merged = adapted",
        "batched generation = single",
    ],
)
def test_each_check_fails_where_its_part_is_broken(kind, sound, monkeypatch):
    sabotage(kind, monkeypatch)
    failed = [each for each in equalities.check(sound) if not each.passed]
    assert kind in [each.name for each in failed]
    assert all(each.advice for each in failed)


def test_a_step_that_holds_more_than_it_should_is_noticed(monkeypatch):
    """The real step, which keeps the logits of its whole row."""
    config = assembly.prepare(compose("doctor", list(KNOBS)))
    data = assembly.build_data(config)
    tuned = assembly.build_model(config)
    module = assembly.build_module(config, tuned, data)
    batch = data.first_batch()
    told = foretold(config, batch, cuda=False)

    def memory() -> Finding:
        found = speed.measure(module, batch, told, low=None, steps=1)
        return next(each for each in found if each.name == speed.MEMORY)

    assert memory().passed
    real = forward.hidden_states
    kept: list[Any] = []

    def hoarding(*arguments: Any) -> Any:
        out = real(*arguments)
        kept.append(torch.zeros(told.activations // 2))
        return out

    monkeypatch.setattr(forward, "hidden_states", hoarding)
    assert not memory().passed


@pytest.mark.parametrize(("measured", "code"), [(0.0, None), (1.0, 1), (float("nan"), 1)])
def test_the_command_ends_with_what_it_found(measured, code, monkeypatch, tmp_path, capsys):
    finding = Finding(name="packed = separate", measured=measured, bound=1e-4, advice="set data.packing=false")
    monkeypatch.setattr(doctor, "examine", lambda config: [finding])
    config = compose("doctor", [*KNOBS, f"output={tmp_path / 'doctor.json'}"])
    if code is None:
        doctor.report(config)
    else:
        with pytest.raises(SystemExit) as ended:
            doctor.report(config)
        assert ended.value.code == code
        assert "set data.packing=false" in capsys.readouterr().out
    assert '"machine"' in (tmp_path / "doctor.json").read_text()
