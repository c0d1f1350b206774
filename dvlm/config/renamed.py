"""Keys of the ms-swift based configuration that DVLM replaces, and where each knob lives now."""

RENAMED = {
    "template": "global_max_length, data.truncation or model.model",
    "training": "one of the groups trainer, optim, data and model",
    "custom": "one of the groups data, augmentation, trainer and rlhf",
    "deepspeed": "an option of the group trainer",
    "template.max_length": "global_max_length",
    "template.template": "model.model (the chat template comes with the model)",
    "template.truncation_strategy": "data.truncation",
    "training.num_train_epochs": "trainer.num_train_epochs",
    "training.max_steps": "trainer.max_steps",
    "training.logging_steps": "trainer.logging_steps",
    "training.eval_strategy": "trainer.eval_steps",
    "training.save_strategy": "trainer.save_steps",
    "training.save_delay_steps": "trainer.save_delay_steps",
    "training.greater_is_better": "trainer.greater_is_better",
    "training.resume_from_checkpoint": "resume_from",
    "training.dataloader_num_workers": "data.dataloader_num_workers",
    "training.dataloader_pin_memory": "data.dataloader_pin_memory",
    "training.report_to": "the group logger",
    "training.per_device_train_batch_size": "data.packs_per_step",
    "training.gradient_accumulation_steps": "data.packs_per_step",
    "training.gradient_checkpointing": "trainer.gradient_checkpointing",
    "training.save_steps": "trainer.save_steps",
    "training.save_total_limit": "trainer.save_total_limit",
    "training.eval_steps": "trainer.eval_steps",
    "training.metric_for_best_model": "trainer.metric_for_best_model",
    "training.packing": "data.packing",
    "training.optimizer": "optim.optimizer",
    "training.learning_rate": "optim.learning_rate",
    "training.vit_lr": "optim.vit_lr",
    "training.aligner_lr": "optim.aligner_lr",
    "training.weight_decay": "optim.weight_decay",
    "training.warmup_ratio": "optim.warmup_ratio",
    "training.max_grad_norm": "optim.max_grad_norm",
    "training.lr_scheduler_type": "optim.lr_scheduler_type",
    "training.lr_scheduler_kwargs": "optim.lr_scheduler_kwargs",
    "training.bf16": "model.torch_dtype",
    "training.output_dir": "hydra.run.dir",
    "training.seed": "seed",
    "custom.train_jsonl": "data.train_jsonl",
    "custom.val_jsonl": "data.val_jsonl",
    "custom.images_per_user_turn": "data.images_per_user_turn",
    "custom.summary_ratio": "data.summary_ratio",
    "custom.emit_norm": "data.emit_norm",
    "custom.user_prompt": "data.user_prompt",
    "custom.sample_limit": "data.sample_limit",
    "custom.save_delay_steps": "trainer.save_delay_steps",
    "custom.augmentation": "augmentation",
    "custom.augmentation.enabled": "the choice augmentation=none",
    "custom.augmentation.ops": "augmentation.ops",
    "custom.augmentation.bypass_prob": "augmentation.bypass_prob",
    "custom.trainer_variant": "rlhf (sft_loss and kl_loss are always logged)",
    "augmentation.enabled": "the choice augmentation=none",
    "data.per_device_train_batch_size": "data.packs_per_step",
    "data.gradient_accumulation_steps": "data.packs_per_step",
    "trainer.per_device_train_batch_size": "data.packs_per_step",
    "trainer.gradient_accumulation_steps": "data.packs_per_step",
    "model.max_length": "global_max_length",
    "rlhf.max_new_tokens": "rlhf.max_completion_length",
}


def new_name(key: str) -> str | None:
    """Where an old key lives now, by its own entry or that of a group above it; None for a key that never was."""
    above, rest = key, ""
    while above and above not in RENAMED:
        above, _, last = above.rpartition(".")
        rest = f".{last}{rest}"
    if not above:
        return None
    new = RENAMED[above]
    return new if " " in new else f"{new}{rest}"
