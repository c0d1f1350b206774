"""Every check of a value and of a combination of values fires, with the key, the value and what was expected."""

from __future__ import annotations

import copy
from functools import cache

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from dvlm.config import TrainConfig, keys
from dvlm.config.compose import compose, register, to_object
from dvlm.config.overrides import parsed, quoted_paths
from dvlm.values import InputError

GKD = "rlhf=gkd_forward"
JSONL = ["data=jsonl", "data.train_jsonl=a.jsonl"]
FROZEN = ["tuner.freeze_llm=true", "tuner.freeze_vit=true", "tuner.freeze_aligner=true"]

REFUSED = [
    # root
    (["global_max_length=15"], "global_max_length is 15, expected at least 16"),
    (["seed=-1"], "seed is -1, expected at least 0"),
    (["model.max_model_len=512"], "model.max_model_len is 512, below global_max_length 1024"),
    (["resume_from="], "resume_from is empty, expected a path"),
    ([*JSONL, "trainer.early_stopping_patience=2", "trainer.eval_steps=5"], "data.val_jsonl is null"),
    # model
    (["model.model="], "model.model is empty"),
    (["model.torch_dtype=float31"], "model.torch_dtype is 'float31'; did you mean 'float32'?"),
    (["model.torch_dtype=int8"], "model.torch_dtype is 'int8'; known: float32, bfloat16"),
    (["model.attn_impl=flash"], "model.attn_impl is 'flash'"),
    (["model.attn_impl=flash_attention_2"], "computes in bfloat16, but model.torch_dtype is float32"),
    (["model.attn_impl=flex_attention"], "flex_attention is refused by transformers' Qwen3-VL; packed rows are cheap"),
    (["model.max_model_len=0"], "model.max_model_len is 0, expected at least 1"),
    # tuner
    (["tuner.train_type=lorra"], "tuner.train_type is 'lorra'; did you mean 'lora'?"),
    (["tuner.lora_bias=some"], "tuner.lora_bias is 'some'"),
    (["tuner.lora_rank=0"], "tuner.lora_rank is 0, expected at least 1"),
    (["tuner.lora_alpha=0"], "tuner.lora_alpha is 0, expected at least 1"),
    (["tuner.lora_dropout=1.5"], "tuner.lora_dropout is 1.5, expected a number from 0.0 to 1.0"),
    (["tuner.target_modules=3"], "tuner.target_modules is 3, expected a list of module names or one regex"),
    (["tuner.target_modules=[3]"], "tuner.target_modules is [3], expected a list of module names or one regex"),
    (["tuner.target_modules=null"], "tuner.target_modules is None, expected a list of module names or one regex"),
    (["tuner.target_modules='('"], "tuner.target_modules is '(', which is not a regex"),
    (["tuner.target_regex=("], "tuner.target_regex is '(', which is not a regex"),
    (["tuner.target_modules=[q_proj]", "tuner.target_regex=x"], "are both set; give one of them"),
    (["tuner.target_modules=[]"], "neither adapters nor modules_to_save"),
    (["tuner.target_regex=^$"], "neither adapters nor modules_to_save"),
    (FROZEN, "tuner freezes llm, vit and aligner: nothing would train"),
    (["tuner=full", *FROZEN], "tuner.train_type=full with every tower frozen"),
    (["tuner=full", "tuner.modules_to_save=[aligner]"], "tuner.train_type=full has no adapters"),
    (["tuner.train_type=longlora"], "tuner.train_type=longlora is out of scope: packed attention"),
    (["tuner.train_type=llamapro"], "tuner.train_type=llamapro is out of scope: it adds layers"),
    (["tuner.train_type=reft"], "tuner.train_type=reft is out of scope: it edits hidden states"),
    (["tuner=boft", "tuner.use_dora=true"], "tuner.use_dora is for train_type lora, but it is boft"),
    (["tuner=adalora", "tuner.init_lora_weights=pissa"], "tuner.init_lora_weights is for train_type lora"),
    (["tuner=vera", "tuner.lorap_lr_ratio=16"], "tuner.lorap_lr_ratio needs B matrices, which vera does not have"),
    (["tuner=boft", "tuner.lora_dropout=0.1"], "tuner.lora_bias and lora_dropout are not for boft"),
    (["tuner.init_lora_weights=eva"], "looks at data or quantises before training and is not supported"),
    (["tuner.init_lora_weights=pisa"], "tuner.init_lora_weights is 'pisa'; did you mean 'pissa'?"),
    (["tuner=pissa", "tuner.use_dora=true"], "tuner.use_dora and init_lora_weights=pissa exclude each other"),
    (["tuner=orthogonal", "tuner.lora_rank=7"], "orthogonal needs an even lora_rank, but it is 7"),
    (["tuner.adalora_beta1=1"], "tuner.adalora_beta1 is 1.0, expected a number between 0 and 1"),
    (
        ["tuner.adalora_start_ratio=0.8"],
        "adalora_start_ratio 0.8 and adalora_final_ratio 0.3 leave no steps between them",
    ),
    (["tuner.adalora_start_ratio=-0.1"], "tuner.adalora_start_ratio is -0.1, expected a number from 0.0 to 1.0"),
    (["tuner=adalora", "tuner.adalora_target_r=32"], "tuner.adalora_target_r is 32, expected at least 1 and less than"),
    (["tuner.adalora_orth_reg_weight=-1"], "tuner.adalora_orth_reg_weight is -1.0, expected at least 0"),
    (["tuner.boft_block_size=0"], "tuner.boft_block_size is 0, expected at least 1"),
    (["tuner.fourier_n_frequency=0"], "tuner.fourier_n_frequency is 0, expected at least 1"),
    (["tuner.fourier_scaling=0"], "tuner.fourier_scaling is 0.0, expected a number above 0"),
    (["tuner.vera_rank=0"], "tuner.vera_rank is 0, expected at least 1"),
    (["tuner.vera_d_initial=0"], "tuner.vera_d_initial is 0.0, expected a number above 0"),
    (["tuner.fourier_seed=-1"], "tuner.fourier_seed is -1, expected at least 0"),
    (["tuner.resume_from_checkpoint="], "tuner.resume_from_checkpoint is empty"),
    # augmentation
    (["augmentation.bypass_prob=1.5"], "augmentation.bypass_prob is 1.5, expected a number from 0.0 to 1.0"),
    (
        ["augmentation.ops=[{name: hflip, params: {prob: 2}}]"],
        "augmentation.ops[0].params.prob must be a number in [0, 1]",
    ),
    # rlhf
    (["rlhf.rlhf_type=dpo"], "rlhf.rlhf_type is 'dpo'; known: none, gkd"),
    (["rlhf.divergence=forward"], "rlhf.divergence is 'forward'; did you mean 'forward_kl'?"),
    ([GKD, "rlhf.beta=-0.1"], "rlhf.beta is -0.1, expected at least 0"),
    ([GKD, "rlhf.beta=nan"], "rlhf.beta is nan, expected at least 0"),
    ([GKD, "rlhf.beta=inf"], "rlhf.beta is inf, expected at least 0"),
    (["rlhf.sft_alpha=-1"], "rlhf.sft_alpha is -1.0, expected at least 0"),
    (["rlhf.kd_temperature=0"], "rlhf.kd_temperature is 0.0, expected a number above 0"),
    (["rlhf.temperature=-1"], "rlhf.temperature is -1.0, expected at least 0"),
    (["rlhf.max_completion_length=0"], "rlhf.max_completion_length is 0, expected at least 1"),
    ([GKD, "rlhf.lmbda=1.5"], "rlhf.lmbda is 1.5, expected a number from 0.0 to 1.0"),
    (["rlhf.top_p=-0.5"], "rlhf.top_p is -0.5, expected a number from 0.0 to 1.0"),
    (["rlhf.jsd_mix=2"], "rlhf.jsd_mix is 2.0, expected a number from 0.0 to 1.0"),
    (["rlhf.teacher_model="], "rlhf.teacher_model is empty"),
    (["rlhf.beta=0.1"], "need a teacher, but rlhf_type is none; use rlhf=gkd_forward"),
    (["rlhf.lmbda=0.5"], "need a teacher, but rlhf_type is none"),
    (["rlhf.seq_kd=true"], "need a teacher, but rlhf_type is none"),
    (["rlhf.sft_alpha=0"], "rlhf.sft_alpha and rlhf.beta are both 0: there is no loss"),
    (["callbacks.guards.policy=warn"], "callbacks.guards.policy is 'warn'"),
    (["callbacks.guards.window=1"], "callbacks.guards.window is 1, expected at least 2"),
    (["callbacks.guards.kl_factor=1"], "callbacks.guards.kl_factor is 1.0, expected a number above 1"),
    (["callbacks.guards.policy=skip", "trainer=zero2"], "callbacks.guards skips steps, but"),
    ([GKD, "rlhf.lmbda=0.5", "rlhf.beta=0"], "rlhf.lmbda is 0.5, but rlhf.beta is 0: on its own samples"),
    (["rlhf=gkd", "rlhf.generation_batch_size=0"], "rlhf.generation_batch_size is 0, expected at least 1"),
    ([GKD, "rlhf.temperature=0", "rlhf.top_p=0.9"], "rlhf.temperature is 0 (greedy) together with top_p 0.9"),
    # data
    (["data.demo.train=0"], "data.demo.train is 0, expected at least 1"),
    (["data.demo.val=0"], "data.demo.val is 0, expected at least 1"),
    (["data.demo.seed=-1"], "data.demo.seed is -1, expected at least 0"),
    (["data.demo.domain=c"], "data.demo.domain is 'c'; known: a, b"),
    (
        ["data.train_jsonl=mine.jsonl"],
        "data.train_jsonl is 'mine.jsonl', but data=demo makes its own records; add data=jsonl",
    ),
    (["data.val_jsonl=mine.jsonl"], "data.val_jsonl is 'mine.jsonl', but data=demo makes its own records"),
    (["data=jsonl", "data.train_jsonl="], "data.train_jsonl is empty"),
    ([*JSONL, "data.val_jsonl="], "data.val_jsonl is empty"),
    (["data.images_per_user_turn=0"], "data.images_per_user_turn is 0, expected at least 1"),
    (["data.samples_per_pack=0"], "data.samples_per_pack is 0, expected at least 1"),
    (["data.samples_per_pack=2"], "with packing the length decides; set data.packing=false"),
    (["data.packs_per_step=0"], "data.packs_per_step is 0, expected at least 1"),
    (["data.sample_limit=0"], "data.sample_limit is 0, expected at least 1"),
    (["data.summary_ratio=1.1"], "data.summary_ratio is 1.1, expected a number from 0.0 to 1.0"),
    (["data.emit_norm=norm10"], "data.emit_norm is 'norm10'; did you mean 'norm100'?"),
    (["data.object_order=top"], "data.object_order is 'top'"),
    (["data.truncation=left"], "data.truncation is 'left'; known: raise, drop"),
    (["data.verify_images=fast"], "data.verify_images is 'fast'"),
    (["data.dataloader_num_workers=-1"], "data.dataloader_num_workers is -1, expected at least 0"),
    (["data.min_pixels=0"], "data.min_pixels is 0, expected at least 1"),
    (["data.max_pixels=0"], "data.max_pixels is 0, expected at least 1"),
    (["data.min_pixels=2000", "data.max_pixels=1000"], "data.max_pixels is 1000, expected at least 2000"),
    # optim
    (["optim.optimizer=adam"], "optim.optimizer is 'adam'; did you mean 'adamw'?"),
    (["optim.lr_scheduler_type=cosine"], "optim.lr_scheduler_type is 'cosine'; known: cosine_warmup_with_min_lr"),
    (["optim.learning_rate=0"], "optim.learning_rate is 0.0, expected a number above 0"),
    (["optim.learning_rate=inf"], "optim.learning_rate is inf, expected a number above 0"),
    (["optim.vit_lr=0"], "optim.vit_lr is 0.0, expected a number above 0"),
    (["optim.aligner_lr=-1"], "optim.aligner_lr is -1.0, expected a number above 0"),
    (["optim.adam_epsilon=0"], "optim.adam_epsilon is 0.0, expected a number above 0"),
    (["optim.max_grad_norm=0"], "optim.max_grad_norm is 0.0, expected a number above 0"),
    (["optim.weight_decay=-0.1"], "optim.weight_decay is -0.1, expected at least 0"),
    (["optim.warmup_ratio=1.5"], "optim.warmup_ratio is 1.5, expected a number from 0.0 to 1.0"),
    (["optim.adam_beta1=1"], "optim.adam_beta1 is 1.0, expected a number from 0 to below 1"),
    (["optim.adam_beta2=-0.1"], "optim.adam_beta2 is -0.1, expected a number from 0 to below 1"),
    (
        ["optim.learning_rate=1e-7"],
        "optim.lr_scheduler_kwargs.min_lr is 1e-06, expected a number from 0 to learning_rate",
    ),
    (["optim.lr_scheduler_kwargs.min_lr=-1"], "optim.lr_scheduler_kwargs.min_lr is -1.0"),
    (["optim=adamw", "optim.vit_lr=1e-4"], "optim.vit_lr and aligner_lr need optim.optimizer=multimodal"),
    (["optim=adamw", "optim.aligner_lr=1e-4"], "optim.vit_lr and aligner_lr need optim.optimizer=multimodal"),
    # trainer
    (["trainer.accelerator=tpu"], "trainer.accelerator is 'tpu'"),
    (["trainer.num_train_epochs=0"], "trainer.num_train_epochs is 0, expected at least 1"),
    (["trainer.max_steps=0"], "trainer.max_steps is 0, expected at least 1"),
    (["trainer.devices=0"], "trainer.devices is 0, expected at least 1"),
    (["trainer.cpu_threads=0"], "trainer.cpu_threads is 0, expected at least 1"),
    (["trainer.eval_steps=0"], "trainer.eval_steps is 0, expected at least 1"),
    (["trainer.save_steps=0"], "trainer.save_steps is 0, expected at least 1"),
    (["trainer.save_total_limit=0"], "trainer.save_total_limit is 0, expected at least 1"),
    (["trainer.early_stopping_patience=0"], "trainer.early_stopping_patience is 0, expected at least 1"),
    (["trainer.logging_steps=0"], "trainer.logging_steps is 0, expected at least 1"),
    (["trainer.save_delay_steps=-1"], "trainer.save_delay_steps is -1, expected at least 0"),
    (["trainer.metric_for_best_model=loss"], "expected a metric of the validation, such as eval/loss"),
    (["trainer.early_stopping_patience=2"], "nothing is validated on the way; set trainer.eval_steps"),
    (
        ["trainer.devices=2", "trainer.num_nodes=2", "data.packs_per_step=6"],
        "data.packs_per_step is 6, which 4 ranks (trainer.devices x trainer.num_nodes) do not divide",
    ),
    # logger, callbacks
    (["logger.wandb.mode=onlin"], "logger.wandb.mode is 'onlin'; did you mean 'online'?"),
    (["callbacks.progress=bars"], "callbacks.progress is 'bars'; did you mean 'bar'?"),
    (["callbacks.sample_pictures=-1"], "callbacks.sample_pictures is -1, expected at least 0"),
    (["callbacks.sample_max_new_tokens=0"], "callbacks.sample_max_new_tokens is 0, expected at least 1"),
]

ACCEPTED = [
    [*FROZEN, "tuner.modules_to_save=[aligner]"],
    [*FROZEN, "tuner.modules_to_save=[aligner]", "tuner.target_regex=^$"],
    [*FROZEN, "tuner.target_regex=.*merger.*"],
    ["tuner.init_lora_weights=pissa_niter_16", "tuner.use_rslora=true"],
    ["tuner=adalora", "tuner.lorap_lr_ratio=16", "tuner.lora_dropout=0.1"],
    ["tuner=full", "tuner.resume_from_checkpoint=merged"],
    [*FROZEN, "tuner.target_modules='.*merger.*'"],
    ["tuner=full", "tuner.freeze_llm=true", "tuner.freeze_aligner=false"],
    ["tuner.target_modules=[]", "tuner.target_regex=.*(q|v)_proj"],
    ["data.packing=false", "data.samples_per_pack=2"],
    [GKD, "rlhf.sft_alpha=0"],
    ["optim.max_grad_norm=null", "optim.lr_scheduler_kwargs.min_lr=0", "optim.warmup_ratio=0"],
    ["optim=adamw"],
    ["trainer.early_stopping_patience=2", "trainer.eval_steps=5", "trainer.metric_for_best_model=eval/kl_loss"],
    ["model=qwen3_vl_4b", "model.attn_impl=flash_attention_2"],
    ["data.demo.domain=b", "data.val_jsonl=null"],
    ["augmentation.bypass_prob=1", "data.summary_ratio=1", "data.min_pixels=1000", "data.max_pixels=1000"],
]


@cache
def composed(*choices: str) -> DictConfig:
    """The node of `train` under group choices only; composing anew for each line of the table would take long."""
    register()
    with hydra.initialize_config_dir(str(keys.CONF), version_base="1.3"):
        return hydra.compose("train", list(choices))


def built(overrides: list[str]) -> TrainConfig:
    """As `compose`, with the values set on a copy of the composed node."""
    read = parsed(quoted_paths(overrides, TrainConfig, multirun=False))
    groups = keys.groups_of(TrainConfig)
    node = copy.deepcopy(composed(*(str(each.input_line) for each in read if each.key_or_group in groups)))
    for each in read:
        if each.key_or_group not in groups:
            OmegaConf.update(node, each.key_or_group, each.value())
    return to_object(node)


@pytest.mark.parametrize(("overrides", "message"), REFUSED, ids=[" ".join(overrides) for overrides, _ in REFUSED])
def test_refused(overrides, message):
    with pytest.raises(InputError) as caught:
        built(overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize("overrides", ACCEPTED, ids=" ".join)
def test_accepted(overrides):
    assert isinstance(built(overrides), TrainConfig)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["checkpoint=", "output=b"], "checkpoint is empty"),
        (["checkpoint=a", "output="], "output is empty"),
        (["checkpoint=a", "output=b", "base_model="], "base_model is empty"),
        (["checkpoint=a", "output=b", "torch_dtype=float23"], "torch_dtype is 'float23'; did you mean 'float32'?"),
    ],
)
def test_refused_by_export(overrides, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        compose("export", overrides)


def test_validate_refuses_an_empty_cache():
    with pytest.raises(InputError, match="cache_dir is empty"):
        compose("validate", ["cache_dir="])


@pytest.mark.parametrize("knob", ["temperature=0", "top_p=0.5", "max_completion_length=64"])
def test_a_sampling_knob_of_a_run_that_samples_nothing_is_warned_of(knob):
    with pytest.warns(UserWarning, match=f"rlhf.{knob}.* has no effect"):
        built([GKD, f"rlhf.{knob}"])


@pytest.mark.filterwarnings("error")
def test_a_preset_as_it_is_is_not_warned_of():
    built([GKD])
    built([])
