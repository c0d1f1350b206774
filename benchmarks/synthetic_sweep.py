"""A sweep that never ran: run directories with plausible curves, for the benchmark and the tests of the report."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

BETAS, LMBDAS, RATES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5), (0.0, 0.5), (5e-5, 1e-4)


def make(directory: Path, *, runs: int, steps: int, every: int = 100, failed: int = 2, sampled: bool = False) -> Path:
    """A sweep of `runs` runs with `steps` logged steps each, validated `every` so many, in `directory`.

    A grid over beta, lmbda, learning rate and as many seeds as it takes; with `sampled`, values drawn at random. The
    first `failed` runs have failed in the middle.
    """
    jobs = []
    rng = np.random.default_rng(17)
    grid = list(itertools.product(LMBDAS, RATES, BETAS))
    for number in range(runs):
        seed, (lmbda, rate, beta) = number // len(grid), grid[number % len(grid)]
        if sampled:
            beta, rate = float(rng.uniform(0, 0.5)), float(np.exp(rng.uniform(np.log(1e-5), np.log(1e-3))))
        values = {"rlhf.beta": beta, "rlhf.lmbda": lmbda, "optim.learning_rate": rate, "seed": seed}
        overrides = [f"{key}={value:.6g}" for key, value in values.items()]
        name = f"beta{beta:.3g}_lmbda{lmbda:g}_lr{rate:.2g}-{number:08x}"
        run(directory / name, values, overrides, steps=steps, every=every, failed=number < failed)
        jobs.append({"directory": name, "overrides": overrides})
    command = ["python", "-m", "dvlm.train", "-m", "+experiment=gkd_forward", "+sweep=gkd_grid"]
    facts = {"name": directory.name, "command": command, "created": "2025-01-01T00:00:00+00:00", "jobs": jobs}
    (directory / "sweep.json").write_text(json.dumps(facts), encoding="utf-8")
    return directory


def run(
    directory: Path, values: dict[str, Any], overrides: list[str], *, steps: int, every: int, failed: bool = False
) -> None:
    """One run directory: a low beta learns more and drifts further, a high learning rate faster."""
    beta, rate, seed = values["rlhf.beta"], values["optim.learning_rate"], values["seed"]
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra" / "overrides.yaml").write_text("".join(f"- {each}\n" for each in overrides), encoding="utf-8")
    (directory / "config.yaml").write_text(
        f"rlhf:\n  rlhf_type: {'gkd' if beta else 'none'}\n  beta: {beta!r}\n  lmbda: {values['rlhf.lmbda']!r}\n"
        f"optim:\n  learning_rate: {rate:.8f}\n"
        "trainer:\n  devices: 2\n  metric_for_best_model: eval/sft_loss\n  greater_is_better: false\n"
        f"seed: {seed}\n",
        encoding="utf-8",
    )
    rng = np.random.default_rng([seed, int(beta * 1e6), int(rate * 1e8)])
    time = np.arange(steps + 1) / steps
    speed = 4 + 40_000 * rate
    learnt = 1 - np.exp(-speed * time)
    sft = 2.0 - (1.2 + 0.12 * np.log10(rate / 5e-5)) * learnt * (1 - 0.5 * beta) + 0.06 * values["rlhf.lmbda"]
    kl = 0.35 * learnt / (1 + 12 * beta) * (1 + 0.5 * np.log10(rate / 5e-5)) * (1 - 0.3 * values["rlhf.lmbda"])
    last = steps // 2 if failed else steps
    with (directory / "logging.jsonl").open("w", encoding="utf-8") as handle:
        for step in range(last + 1):
            if step % every == 0 or step == last:
                handle.write(json.dumps({"step": step, **_losses("eval", sft[step] + 0.05, kl[step], beta)}) + "\n")
            noise = rng.normal(0, 0.03, 2)
            row = {"step": step, **_losses("train", sft[step] + noise[0], abs(kl[step] * (1 + noise[1])), beta)}
            row |= {"train/grad_norm": float(abs(noise[0])) + 0.5, "lr/llm": rate, "lr/aligner": rate}
            row |= {"perf/tokens_per_second": 9000.0 + 100 * noise[1], "perf/data_wait_share": 0.01}
            handle.write(json.dumps(row) + "\n")
    status = {
        "state": "failed" if failed else "succeeded",
        "started": "2025-01-01T00:00:00+00:00",
        "ended": "2025-01-01T01:30:00+00:00",
        "error": "torch.OutOfMemoryError: CUDA out of memory" if failed else None,
        "step": last,
        "steps": steps,
        "restarts": 0,
        "job": str(seed),
        "host": "node1",
        "value": float(sft[last]),
    }
    (directory / "status.json").write_text(json.dumps(status), encoding="utf-8")


def _losses(prefix: str, sft: float, kl: float, beta: float) -> dict[str, float]:
    return {
        f"{prefix}/loss": float(sft + beta * kl),
        f"{prefix}/sft_loss": float(sft),
        f"{prefix}/kl_loss": float(kl),
        f"{prefix}/token_accuracy": float(np.exp(-sft)),
        f"{prefix}/token_count": 4096.0,
    }
