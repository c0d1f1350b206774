"""From a typed configuration to the parts of a run: data, model, module, trainer."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning as L
from rich.console import Console

from dvlm import checks, rollouts, run, stages, teaching
from dvlm.augmentation.pipeline import Pipeline
from dvlm.callbacks import memory
from dvlm.callbacks.agreement import SameConfig
from dvlm.callbacks.first_sample import FirstSample
from dvlm.callbacks.guards import Guards
from dvlm.callbacks.health import BeforeFirstStep, FirstGradients, SamePacks
from dvlm.callbacks.loggers import build_loggers, recording
from dvlm.callbacks.memory import Memory
from dvlm.callbacks.pictures import Pictures
from dvlm.callbacks.preemption import Preemption
from dvlm.callbacks.progress import build_progress
from dvlm.callbacks.pruning import Pruning
from dvlm.callbacks.ranks import RankAllocation
from dvlm.callbacks.saving import Saving
from dvlm.callbacks.scores import Scores
from dvlm.callbacks.standing import Standing
from dvlm.callbacks.step_log import StepLog
from dvlm.callbacks.stopping import EarlyStopping
from dvlm.checkpoints import TRAINER, CheckpointStore, find, saved_step
from dvlm.config import TrainConfig
from dvlm.config.job import Job
from dvlm.costs import estimate as costs
from dvlm.data import files
from dvlm.data.datamodule import CaptionDataModule
from dvlm.data.encode import Encoder
from dvlm.dumps import FOLDER, Dumps
from dvlm.learning.gkd import GKDModule
from dvlm.learning.module import SFTModule
from dvlm.learning.origin import shares
from dvlm.models import load, tuning
from dvlm.models.tuning import Tuned
from dvlm.scale import strategies
from dvlm.scale.file import StraightIO
from dvlm.scale.watch import Watch, watched
from dvlm.sweeps import ranks

NEVER = 10**12  # micro-batches between validations that Lightning itself starts
CHECKED_SAMPLES = 4


def prepare(config: TrainConfig) -> TrainConfig:
    """The same configuration with what it names made or found: models, the demo set, checkpoints to start from.

    Raises InputError for what is not there, and for a checkpoint of another base model.
    """
    strategies.check_devices(config.trainer)
    cache = Path(config.cache_dir)
    teacher = config.rlhf.teacher_model
    if teacher != "base":
        teacher = load.resolve(replace(config.model, model=teacher), cache, "rlhf.teacher_model").model
    model = load.resolve(config.model, cache)
    fingerprint = load.fingerprint(teacher)
    if teacher == model.model or (fingerprint is not None and fingerprint == load.fingerprint(model.model)):
        teacher = "base"
    config = stages.resolved(replace(config, model=model, rlhf=replace(config.rlhf, teacher_model=teacher)))
    if config.resume_from:
        checkpoint = find(config.resume_from)
        load.check_base(checkpoint, stages.base_of(config), "resume_from")
        config = replace(config, resume_from=str(checkpoint))
    rollouts.check_aim(config)
    return replace(config, data=files.prepared(config.data, cache))


def build_data(config: TrainConfig) -> CaptionDataModule:
    """The checked and planned data of a run; its encoder holds the processor."""
    processor = load.load_processor(config.model.model, config.data.min_pixels, config.data.max_pixels)
    return CaptionDataModule(
        config.data,
        augmentation=Pipeline.build(config.augmentation.as_mappings(), config.augmentation.bypass_prob),
        encoder=Encoder(processor, load.load_config(config.model.model)),
        seed=config.seed,
        epochs=config.trainer.num_train_epochs,
        max_length=config.global_max_length,
        world_size=config.trainer.devices * config.trainer.num_nodes,
        cache=Path(config.cache_dir).resolve(),
    )


def build_model(config: TrainConfig) -> Tuned:
    """The student: loaded, adapted, and started from an earlier stage's weights where asked."""
    model = load.load_model(replace(config.model, model=stages.base_of(config)), packing=config.data.packing)
    tuned = tuning.tune(model, config.tuner, seed=config.seed)
    checks.check_tuned(tuned)
    tuned = stages.started(tuned, config)
    if config.trainer.gradient_checkpointing:
        tuned.model.activation_checkpointing_enable()
    return tuned


def build_module(config: TrainConfig, tuned: Tuned, data: CaptionDataModule) -> SFTModule:
    """SFT or GKD, with the teacher that the `rlhf` group asks for."""
    steps = config.trainer.max_steps or data.train_plan.steps
    common: dict[str, Any] = {
        "optim_config": config.optim,
        "rlhf": config.rlhf,
        "steps": min(steps, data.train_plan.steps),
        "accumulation": data.accumulation,
        "seed": config.seed,
        "groups": data.groups,
        "lorap_lr_ratio": config.tuner.lorap_lr_ratio,
        "spread": config.trainer.strategy in strategies.SPREAD,
    }
    if config.rlhf.uses_teacher:
        teacher = teaching.build_teacher(config, tuned, data)
        rollout = rollouts.build_rollout(config, tuned, teacher, data)
        return GKDModule(tuned, teacher=teacher, rollout=rollout, **common)
    watcher = teaching.build_teacher(config, tuned, data) if config.rlhf.eval_kl else None
    return SFTModule(tuned, eval_teacher=watcher, **common)


def check_samples(data: CaptionDataModule) -> None:
    """The health checks of the first samples of the plan."""
    names = [name for pack in data.train_plan.packs for name in pack.samples][:CHECKED_SAMPLES]
    for epoch, index in names:
        sample = data.train_line.sample(epoch, index)
        checks.check_sample(sample, data.encoder.processor.tokenizer, data.encoder.model_config)


def build_trainer(
    config: TrainConfig, directory: Path, module: SFTModule, data: CaptionDataModule, job: Job
) -> L.Trainer:
    """The Lightning trainer: one epoch that holds every planned pack."""
    settings = config.trainer
    checkpoint = Path(config.resume_from) if config.resume_from else None
    resumed = (checkpoint.parent.parent, saved_step(checkpoint)) if checkpoint else None
    loggers = build_loggers(config.logger, directory, job=job, run_config=asdict(config), resumed=resumed)
    return L.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=strategies.build(config),
        precision=None if settings.strategy in strategies.ZERO else precision(config),
        max_epochs=1,
        max_steps=module.steps,
        accumulate_grad_batches=data.accumulation,
        check_val_every_n_epoch=None,
        val_check_interval=settings.eval_steps * data.accumulation if settings.eval_steps else NEVER,
        log_every_n_steps=settings.logging_steps,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        plugins=[StraightIO(), *ranks.environments()],
        logger=loggers,
        callbacks=[*([Pruning(job.trial)] if job.trial else []), *build_callbacks(config, directory, data, job)],
    )


def precision(config: TrainConfig) -> Any:
    """Lightning's name for `model.torch_dtype`."""
    return "32-true" if config.model.torch_dtype == "float32" else "bf16-mixed"


def build_callbacks(config: TrainConfig, directory: Path, data: CaptionDataModule, job: Job) -> list[L.Callback]:
    """What watches the run, in the order in which it is called."""
    processor, shown = data.encoder.processor, config.callbacks
    saving = Saving(
        CheckpointStore(directory / "checkpoints"),
        config.trainer,
        processor=processor,
        prompts=data.prompts,
        canvas=data.augmentation,
        resumed=Path(config.resume_from) if config.resume_from else None,
    )
    timeout = config.trainer.rank_timeout_s
    callbacks: list[L.Callback] = [
        *([Watch(timeout)] if timeout else []),
        Memory(config, job.overrides),
        StepLog(lambda: costs.flops_per_token(config, data.first_batch())),
        Guards(shown.guards, Dumps(directory / FOLDER, config, data)),
        BeforeFirstStep(starts_as_teacher=stages.not_as_teacher(config) is None, dtype=config.model.torch_dtype),
        FirstGradients(),
        SamePacks(),
    ]
    if config.tuner.train_type == "adalora" and config.tuner.wants_adapters:
        tuner = config.tuner
        callbacks.append(
            RankAllocation(directory, start_ratio=tuner.adalora_start_ratio, final_ratio=tuner.adalora_final_ratio)
        )
    if shown.sample_pictures and data.val_line is not None:
        samples = data.validation_samples(shown.sample_pictures)
        limit = shown.sample_max_new_tokens
        callbacks.append(
            Pictures(
                directory / "samples",
                samples,
                tokenizer=processor.tokenizer,
                prompts=data.prompts,
                max_new_tokens=limit,
            )
        )
    if shown.score_turns and data.val_line is not None:
        callbacks.append(
            Scores(
                data.val_line,
                count=shown.score_turns,
                every=shown.score_steps,
                max_new_tokens=shown.score_max_new_tokens,
            )
        )
    if config.debug:
        epoch, index = data.train_plan.packs[0].samples[0]
        first = data.train_line.sample(epoch, index)
        callbacks.append(FirstSample(directory / "samples", first, processor.tokenizer))
    callbacks += build_progress(shown.progress)
    patience = config.trainer.early_stopping_patience
    early = [EarlyStopping(config.trainer, patience)] if patience else []
    agreed = SameConfig(asdict(config) | {"directory": str(directory), "bad records": data.bad_digest})
    return [agreed, *callbacks, Standing(directory), Preemption(saving), *early, saving]


def fit(config: TrainConfig, directory: Path, trainer: L.Trainer, module: SFTModule, data: CaptionDataModule) -> float:
    """Validate, train, validate; returns the last value of the metric of `best` (nan where it was never logged)."""
    console = Console(quiet=not trainer.is_global_zero)
    statistics = data.train_plan.statistics(config.global_max_length)
    run.announce(console, module.tuned, config, statistics, module.steps)
    teacher = module.train_teacher or module.eval_teacher
    if teacher:
        console.print(teaching.account(config, teacher, module.reach, data), soft_wrap=True)
    run.name_dropped(console, data.dropped)
    run.name_origins(console, shares(module.steps, config.rlhf, config.seed), config.rlhf)
    run.name_start(console, module.tuned, stages.not_as_teacher(config) if teacher else None)
    if trainer.is_global_zero:
        facts = {"plan": statistics, "dropped": data.dropped, "bad_records": len(data.bad), "fresh": module.tuned.fresh}
        run.describe(directory, config, facts)
        run.write_bad(directory, data.bad)
    checkpoint = Path(config.resume_from) if config.resume_from else None
    if checkpoint:
        step = saved_step(checkpoint)
        left = f"{module.steps - step} steps are left" if step < module.steps else "nothing is left to train"
        console.print(f"resumes {checkpoint} at step {step}: {left}", soft_wrap=True)
    validates = data.val_plan is not None
    with recording(trainer.loggers), watched(trainer), memory.explained(trainer):
        if validates and config.trainer.eval_at_start and not checkpoint:
            trainer.validate(module, datamodule=data, verbose=False)
        first = module.latest.get("eval/sft_loss")
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint / TRAINER if checkpoint else None, weights_only=True)
        if validates and module.validated != trainer.global_step:
            trainer.validate(module, datamodule=data, verbose=False)
    run.closing(console, directory, first, module.latest.get("eval/sft_loss"))
    return module.latest.get(config.trainer.metric_for_best_model, float("nan"))
