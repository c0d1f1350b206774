"""A typo is an error that names the key and the nearest right one, wherever it is made."""

from __future__ import annotations

import pytest

from dvlm.config import keys
from dvlm.config.compose import compose
from dvlm.values import InputError

GLOBAL = "# @package _global_\n"
DEMO_OPS = "augmentation.ops=[{name: hflip, params: {prob: 0.5}}]"

ON_THE_COMMAND_LINE = [
    # a key
    (["rlhf.beat=1"], "unknown key 'rlhf.beat'; did you mean 'rlhf.beta'?"),
    (["sed=1"], "unknown key 'sed'; did you mean 'seed'?"),
    (["logger.wandb.enabld=true"], "unknown key 'logger.wandb.enabld'; did you mean 'logger.wandb.enabled'?"),
    (["data.demo.trian=3"], "unknown key 'data.demo.trian'; did you mean 'data.demo.train'?"),
    (["optim.lr_scheduler_kwargs={min_l: 0}"], "did you mean 'optim.lr_scheduler_kwargs.min_lr'?"),
    (["data={emit_nrm: none}"], "unknown key 'data.emit_nrm'; did you mean 'data.emit_norm'?"),
    (["lora_rank=8"], "unknown key 'lora_rank'; did you mean 'tuner.lora_rank'?"),
    (["trainer.learning_rate=1"], "unknown key 'trainer.learning_rate'; did you mean 'optim.learning_rate'?"),
    (["trainer.zzz=1"], "unknown key 'trainer.zzz'; known: trainer.num_train_epochs, trainer.max_steps"),
    (["zzz.zzz=1"], "unknown key 'zzz.zzz'; known: augmentation, callbacks, data, engine, experiment"),
    (["hydra.rnu.dir=x"], "unknown key 'hydra.rnu'; did you mean 'hydra.run'?"),
    # a group or an option
    (["rlfh=gkd_forward"], "unknown key 'rlfh'; did you mean 'rlhf'?"),
    (["rlhf=gkd_foward"], "rlhf has no option 'gkd_foward'; did you mean 'gkd_forward'?"),
    (["+experiment=gkd_foward"], "experiment has no option 'gkd_foward'; did you mean 'gkd_forward'?"),
    (["rlhf=zzz"], "rlhf has no option 'zzz'; known: gkd, gkd_forward, gkd_swift, gkd_trl, none, seq_kd"),
    (["hydra/launcher=zzz"], "hydra/launcher has no option 'zzz'"),
    (["data="], "'data=': expected one option of data; known: demo, jsonl"),
    (["data=null"], "'data=null': expected one option of data"),
    (["model@foo=tiny"], "'model@foo=tiny': expected one option of model"),
    (["+experiment=null"], "'+experiment=null': expected one option of experiment"),
    (["+experiment=[sft,smoke]"], "'+experiment=[sft,smoke]': expected one option of experiment"),
    (
        ["model=/data/Qwen3-VL"],
        "'model=/data/Qwen3-VL': a group takes an option; a path or hub id is a knob: model.model=",
    ),
    # an op
    (["augmentation.ops=[{name: hflp}]"], "augmentation.ops[0].name: there is no op 'hflp'; did you mean 'hflip'?"),
    (
        ["augmentation.ops=[{name: hflip, params: {prb: 1}}]"],
        "augmentation.ops[0].params.prb: hflip has no such parameter",
    ),
    (["augmentation.ops=[{name: hflip, parms: {prob: 1}}]"], "unknown key 'parms'; did you mean 'params'?"),
    (["augmentation.ops=[{nme: hflip}]"], "unknown key 'nme'; did you mean 'name'?"),
    (["augmentation.ops=[{}]"], "augmentation.ops[0].name has no value"),
    ([DEMO_OPS, "augmentation.ops.0.params.prb=1"], "hflip has no such parameter; did you mean 'prob'?"),
    (
        [DEMO_OPS, "augmentation.ops.0.prams.prob=1"],
        "unknown key 'augmentation.ops.0.prams.prob'; an op has the keys name and params",
    ),
    ([DEMO_OPS, "augmentation.ops.first=1"], "unknown key 'augmentation.ops.first'"),
    ([DEMO_OPS, "augmentation.ops.1.params.prob=1"], "augmentation.ops[1]"),
    # plus and tilde
    (["+foo=1"], "'+foo=1': '+' is for +experiment and +sweep only; drop it"),
    (["+data.packs_per_step=2"], "'+data.packs_per_step=2': '+' is for +experiment and +sweep only; drop it"),
    (["++data.packs_per_step=2"], "'+' is for +experiment and +sweep only; drop it"),
    (["++data.packs_per_stp=2"], "'++data.packs_per_stp=2'"),
    (["++experiment=sft"], "'++experiment=sft'"),
    (["+augmentation.foo=2"], "'+augmentation.foo=2'"),
    (["experiment=gkd_forward"], "'experiment=gkd_forward' needs a plus: +experiment=gkd_forward"),
    (["+sweep=x"], "sweep"),
    (["~rlhf"], "'~rlhf': nothing can be removed with '~'"),
    (["~data.val_jsonl"], "'~data.val_jsonl': nothing can be removed with '~'"),
    (["~experiment"], "'~experiment': nothing can be removed with '~'"),
    # old names
    (["training.learning_rate=1e-4"], "'training.learning_rate' is now optim.learning_rate"),
    (["training.lr_scheduler_kwargs.min_lr=0"], "is now optim.lr_scheduler_kwargs.min_lr"),
    (["training.per_device_train_batch_size=1"], "is now data.packs_per_step"),
    (["template.max_length=4096"], "'template.max_length' is now global_max_length"),
    (["custom.emit_norm=none"], "'custom.emit_norm' is now data.emit_norm"),
    (["custom.augmentation.enabled=false"], "is now the choice augmentation=none"),
    (["deepspeed.config=zero2"], "'deepspeed.config' is now an option of the group trainer"),
    (["training.foo=1"], "'training.foo' is now one of the groups"),
    # a value
    (["rlhf.beta=abc"], "rlhf.beta in 'rlhf.beta=abc': Value 'abc' of type 'str' could not be converted to Float"),
    (["trainer.max_steps=2.5"], "expected int or null"),
    (["seed="], "seed in 'seed=': Value '' of type 'str' could not be converted to Integer; expected int"),
    (["optim.learning_rate=null"], "optim.learning_rate in 'optim.learning_rate=null'"),
    (["tuner.modules_to_save=aligner"], "tuner.modules_to_save in 'tuner.modules_to_save=aligner'"),
    (["model.model=${nothing}"], "model.model: Interpolation key 'nothing' not found"),
    # a value that is missing
    (["data=jsonl"], "give data.train_jsonl=<"),
    (["data=jsonl", "data.train_jsonl=a", "data.demo.train=3"], "'data.demo.train=3': data.demo is null here"),
    # what Hydra cannot read
    (["seed"], "cannot read override 'seed'"),
    (["tuner.modules_to_save=a(b"], "with quotes it is text: tuner.modules_to_save='\"a(b\"'"),
    (["optim.learning_rate=1e-4,1e-5"], "optim.learning_rate=1e-4,1e-5"),
]

IN_A_FILE = [
    # an experiment
    (
        "experiment/x.yaml",
        GLOBAL + "rlhf:\n  beat: 1\n",
        "unknown key 'rlhf.beat' in conf/experiment/x.yaml; did you mean 'rlhf.beta'?",
    ),
    (
        "experiment/x.yaml",
        GLOBAL + "rlfh:\n  beta: 1\n",
        "unknown key 'rlfh' in conf/experiment/x.yaml; did you mean 'rlhf'?",
    ),
    ("experiment/x.yaml", GLOBAL + "sed: 1\n", "unknown key 'sed' in conf/experiment/x.yaml; did you mean 'seed'?"),
    (
        "experiment/x.yaml",
        GLOBAL + "training:\n  packing: true\n",
        "'training' in conf/experiment/x.yaml is now one of the groups",
    ),
    ("experiment/x.yaml", GLOBAL + "rlhf:\n  beta: abc\n", "rlhf.beta in conf/experiment/x.yaml: Value 'abc'"),
    ("experiment/x.yaml", GLOBAL + "seed: 1\nseed: 2\n", "conf/experiment/x.yaml:3: found duplicate key seed"),
    (
        "experiment/x.yaml",
        GLOBAL + "seed: 1\n  debug: true\n",
        "conf/experiment/x.yaml:3: mapping values are not allowed here",
    ),
    (
        "experiment/x.yaml",
        GLOBAL + "rlhf: gkd_forward\n",
        "options are chosen in the defaults list: `- override /rlhf: gkd_forward`",
    ),
    (
        "experiment/x.yaml",
        GLOBAL + "defaults:\n  - override /rlhf: gkd_foward\n",
        "rlhf has no option 'gkd_foward'; did you mean 'gkd_forward'?",
    ),
    (
        "experiment/x.yaml",
        GLOBAL + "defaults:\n  - override /rlfh: none\n",
        "no config group 'rlfh' to override in conf/experiment/x.yaml; did you mean 'rlhf'?",
    ),
    (
        "experiment/x.yaml",
        GLOBAL + "defaults:\n  - override rlhf: none\n",
        "`override rlhf` in conf/experiment/x.yaml must be `override /rlhf`",
    ),
    (
        "experiment/x.yaml",
        GLOBAL + "defaults:\n  - /rlhf: none\n",
        "rlhf is chosen twice; a defaults list chooses anew with `override /rlhf`",
    ),
    (
        "experiment/x.yaml",
        "rlhf:\n  beta: 1\n",
        "the first line in conf/experiment/x.yaml must be `# @package _global_`",
    ),
    (
        "experiment/x.yaml",
        GLOBAL + "augmentation:\n  ops:\n    - name: hflp\n",
        "augmentation.ops[0].name: there is no op 'hflp'; did you mean 'hflip'?",
    ),
    # a group
    ("rlhf/x.yaml", "beat: 1\n", "unknown key 'rlhf.beat' in conf/rlhf/x.yaml; did you mean 'rlhf.beta'?"),
    ("rlhf/x.yaml", "rlhf_type: gkd\nbeta: 0.1\nbeta: 0.2\n", "conf/rlhf/x.yaml:3: found duplicate key beta"),
    ("rlhf/x.yaml", "beta: null\n", "rlhf.beta in conf/rlhf/x.yaml: Incompatible value 'None'"),
    ("rlhf/x.yaml", "rlhf:\n  beta: 0.1\n", "unknown key 'rlhf.rlhf' in conf/rlhf/x.yaml"),
    (
        "optim/x.yaml",
        "lr_scheduler_kwargs:\n  min_l: 1\n",
        "conf/optim/x.yaml; did you mean 'optim.lr_scheduler_kwargs.min_lr'?",
    ),
    (
        "data/x.yaml",
        "demo:\n  trian: 3\n",
        "unknown key 'data.demo.trian' in conf/data/x.yaml; did you mean 'data.demo.train'?",
    ),
    (
        "model/x.yaml",
        "model: [1]\n",
        "model.model in conf/model/x.yaml: Cannot convert 'ListConfig' to string: '[1]'; expected str",
    ),
    ("model/x.yaml", GLOBAL + "mdel:\n  model: a\n", "unknown key 'mdel' in conf/model/x.yaml; did you mean 'model'?"),
    # an op
    ("augmentation/x.yaml", "ops:\n  - {name: hflp}\n", "there is no op 'hflp'; did you mean 'hflip'?"),
    (
        "augmentation/x.yaml",
        "ops:\n  - {name: rotate}\n  - {name: hflip, params: {prb: 1}}\n",
        "augmentation.ops[1].params.prb: hflip has no such parameter; did you mean 'prob'?",
    ),
    (
        "augmentation/x.yaml",
        "ops:\n  - {name: hflip, parms: {prob: 1}}\n",
        "unknown key 'parms' in conf/augmentation/x.yaml; did you mean 'params'?",
    ),
    (
        "augmentation/x.yaml",
        "ops:\n  - {name: hflip, prob: 1}\n",
        "unknown key 'prob' in conf/augmentation/x.yaml; known: name, params",
    ),
    (
        "augmentation/x.yaml",
        "ops:\n  - {name: hflip, params: {prob: 1, prob: 2}}\n",
        "conf/augmentation/x.yaml:2: found duplicate key prob",
    ),
    ("augmentation/x.yaml", "ops:\n  - hflip\n", "augmentation.ops[0] in conf/augmentation/x.yaml"),
    ("augmentation/x.yaml", "bypass_prb: 0.1\n", "did you mean 'augmentation.bypass_prob'?"),
]


def refusal(overrides: list[str], verb: str = "train") -> str:
    with pytest.raises(InputError) as caught:
        compose(verb, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"), ON_THE_COMMAND_LINE, ids=[" ".join(o) for o, _ in ON_THE_COMMAND_LINE]
)
def test_on_the_command_line(overrides, message):
    assert message in refusal(overrides)


@pytest.mark.parametrize(("file", "text", "message"), IN_A_FILE)
def test_in_a_file(file, text, message, written):
    written(file, text)
    group, option = file.removesuffix(".yaml").split("/")
    assert message in refusal([f"+{group}={option}" if group == "experiment" else f"{group}={option}"])


def test_in_a_root_file(written):
    text = (keys.CONF / "train.yaml").read_text(encoding="utf-8")
    written("train.yaml", text + "sed: 1\n")
    assert "unknown key 'sed' in conf/train.yaml; did you mean 'seed'?" in refusal([])
    written("train.yaml", text.replace("- rlhf: none", "- rlfh: none"))
    assert "there is no config group 'rlfh'; did you mean 'rlhf'?" in refusal([])
    written("train.yaml", text.replace("- rlhf: none", "- rlhf: nne"))
    assert "rlhf has no option 'nne'; did you mean 'none'?" in refusal([])


def test_each_verb_knows_its_own_keys():
    assert "unknown key 'model.model'" in refusal(["model.model=x"], "validate")
    assert "unknown key 'outpt'; did you mean 'output'?" in refusal(["outpt=x"], "export")
    assert compose("export", ["checkpoint=a", "output=b", "base_model=/data/Qwen3-VL"]).base_model == "/data/Qwen3-VL"


def test_every_missing_value_is_named():
    assert "checkpoint has no value; give checkpoint=<value>" in refusal([], "export")
    assert "output has no value; give output=<value>" in refusal(["checkpoint=a"], "export")


def test_an_op_parameter_that_its_file_leaves_out_can_be_set(written):
    written("augmentation/x.yaml", "ops:\n  - name: hflip\n  - name: rotate\n")
    config = compose(
        "train", ["augmentation=x", "augmentation.ops.1.params.max_deg=3", "augmentation.ops.0.name=vflip"]
    )
    assert [(op.name, op.params) for op in config.augmentation.ops] == [("vflip", {}), ("rotate", {"max_deg": 3})]
