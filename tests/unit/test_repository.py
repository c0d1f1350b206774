"""Rules of the code base that no linter knows: who may import whom, how long a file is, what must be documented."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dvlm.config.roots import ROOTS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "dvlm").rglob("*.py"))
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
LONGEST = 300
VERBS = {f"dvlm.{verb}" for verb in ROOTS}
LAUNCHERS = {"dvlm.sweeps.pool", "dvlm.sweeps.ranks"}  # they start processes, and tell them which rank they are

# What each stage may import of the others. Whatever is not named here stands above them all.
BELOW = {
    "geometry": set(),
    "values": {"geometry"},
    "durable": {"values"},
    "augmentation": {"geometry", "values"},
    "config": {"durable", "augmentation", "values"},
    "drawing": {"durable", "geometry", "values"},
    "data": {"durable", "geometry", "values", "augmentation", "config", "drawing"},
    "models": {"durable", "config", "interruption", "values"},
    "scale": {"models", "config", "interruption", "values"},
    "learning": {"durable", "models", "scale", "config", "interruption", "values"},
    "costs": {"models", "learning", "config", "values"},
    "metrics": {"geometry", "values"},
    "checkpoints": {"durable", "data", "values"},
    "inference": {"checkpoints", "data", "models", "geometry", "values", "augmentation", "config", "drawing"},
}


def name_of(file: Path) -> str:
    """`dvlm.data.plan` for dvlm/data/plan.py."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports anywhere in it; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def places(found: dict[Path, list[str]]) -> list[str]:
    """One line a file, for the message of a failing test."""
    return [f"{file.relative_to(ROOT)}: {', '.join(map(str, what))}" for file, what in found.items() if what]


def test_stages_import_only_what_is_below_them():
    found = {}
    for file, tree in TREES.items():
        stage = file.relative_to(ROOT / "dvlm").parts[0].removesuffix(".py")
        if stage in BELOW:
            used = {name.split(".")[1] for name in imported(tree) if name.startswith("dvlm.")}
            found[file] = sorted(used - BELOW[stage] - {stage})
    assert not places(found)


def test_nothing_imports_a_verb():
    found = {file: sorted(set(imported(tree)) & VERBS) for file, tree in TREES.items()}
    assert not places(found)


def test_only_verbs_and_configuration_see_hydra():
    found = {
        file: [name for name in imported(tree) if name.split(".")[0] in ("omegaconf", "hydra")]
        for file, tree in TREES.items()
        if name_of(file) not in VERBS | {"dvlm.run"} and not name_of(file).startswith("dvlm.config.")
    }
    assert not places(found)


def test_only_verbs_and_launchers_read_the_environment():
    def reads(tree: ast.AST) -> list[str]:
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name | ast.alias)]
        names = {getattr(node, "attr", getattr(node, "id", getattr(node, "name", ""))) for node in nodes}
        return sorted(names & {"environ", "environb", "getenv", "putenv"})

    found = {file: reads(tree) for file, tree in TREES.items() if name_of(file) not in VERBS | LAUNCHERS}
    assert not places(found)


def test_no_file_is_long():
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert not [f"{file.relative_to(ROOT)}: {length}" for file, length in lengths.items() if length > LONGEST]


def test_files_of_tests_have_names_of_their_own():
    """pytest imports each by its name alone: of two that share one, neither can be collected with the other."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert not sorted(name for name in set(names) if names.count(name) > 1)


def test_no_error_is_swallowed():
    """`except:` and `except Exception:` may add to an error, but must raise again."""

    def is_broad(kind: ast.expr | None) -> bool:
        kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
        return any(each is None or getattr(each, "id", "") in ("Exception", "BaseException") for each in kinds)

    found = {
        file: [
            f"line {node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ExceptHandler)
            and is_broad(node.type)
            and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        ]
        for file, tree in TREES.items()
    }
    assert not places(found)


UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "tarfile", "zipfile"}
HARMLESS = {"pickle.UnpicklingError"}  # the name of an error


def test_nothing_is_read_that_could_run_and_no_archive_is_unpacked():
    """No pickles, no code that comes with a model; torch reads tensors only, numpy no objects."""

    def constant(call: ast.Call, name: str) -> object:
        return next((getattr(each.value, "value", ...) for each in call.keywords if each.arg == name), None)

    def wrong(tree: ast.AST) -> Iterator[str]:
        names = set(imported(tree)) - HARMLESS
        safe = {each.rpartition(".")[0] for each in HARMLESS}
        whole = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        yield from (each for each in names if each.split(".")[0] in UNSAFE and (each not in safe or each in whole))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            called = ast.unparse(call.func)
            if called == "torch.load" and constant(call, "weights_only") is not True:
                yield f"line {call.lineno}: torch.load without weights_only=True"
            if constant(call, "trust_remote_code") not in (None, False):
                yield f"line {call.lineno}: trust_remote_code"
            if constant(call, "allow_pickle") not in (None, False):
                yield f"line {call.lineno}: allow_pickle"
            if called.endswith(("unpack_archive", "extractall", "yaml.unsafe_load", "yaml.full_load")):
                yield f"line {call.lineno}: {called}"
            if called == "yaml.load" and ast.unparse(call.args[1]) != "LOADER":
                yield f"line {call.lineno}: yaml.load"

    others = [*(ROOT / "hydra_plugins").glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    trees = TREES | {file: ast.parse(file.read_text(encoding="utf-8")) for file in others}
    assert not places({file: list(wrong(tree)) for file, tree in trees.items()})


@pytest.mark.parametrize("folder", ["dvlm", "conf", "hydra_plugins", "launchers", "benchmarks", "tests", "docs"])
def test_nothing_is_left_to_do(folder):
    marks = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X:"]))
    files = [file for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".yaml", ".md", ".sh", ".sbatch")]
    found = {file: marks.findall(file.read_text(encoding="utf-8")) for file in files}
    assert not places(found)


def test_everything_public_is_documented():
    """Modules, functions, classes and methods, unless a class above documents the method of the same name."""
    classes = {node.name: node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}

    def inherits(node: ast.ClassDef, method: str) -> bool:
        above = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
        return any(documents(each, method) or inherits(each, method) for each in above)

    def documents(node: ast.ClassDef, method: str) -> bool:
        return any(is_function(inner) and inner.name == method and ast.get_docstring(inner) for inner in node.body)

    def is_function(node: ast.AST) -> bool:
        return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)

    def silent(body: list[ast.stmt], prefix: str = "", owner: ast.ClassDef | None = None) -> Iterator[str]:
        for node in body:
            if not (is_function(node) or isinstance(node, ast.ClassDef)) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node) and not (owner is not None and inherits(owner, node.name)):
                yield f"{prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from silent(node.body, f"{node.name}.", node)

    found = {
        file: [*([] if ast.get_docstring(tree) else ["the module"]), *silent(tree.body)] for file, tree in TREES.items()
    }
    assert not places(found)


def requirements(section: str, key: str) -> list[str]:
    """A list of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup[section][key].split()


def test_environment_has_the_ranges_of_setup():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    expected = requirements("options", "install_requires") + requirements("options.extras_require", "dev")
    assert environment["name"] == "dvlm"
    assert sorted(pip) == sorted([*expected, "-e ."])
    assert f"python{requirements('options', 'python_requires')[0]}" in conda


def test_every_requirement_has_a_range():
    keys = [("options", "install_requires"), ("options.extras_require", "gpu"), ("options.extras_require", "dev")]
    for line in (line for key in keys for line in requirements(*key)):
        assert re.fullmatch(r"[\w-]+(==[\w.]+|>=[\w.]+,<[\w.]+)", line), line


def test_third_party_imports_are_required():
    """Whatever dvlm/ imports at all is installed with it, or with an extra."""
    modules = {"cv2": "opencv-python-headless", "PIL": "pillow", "hydra": "hydra-core", "yaml": "pyyaml"}
    modules |= {"faster_coco_eval": "faster-coco-eval", "wandb_workspaces": "wandb-workspaces"}
    modules |= {"compressed_tensors": "compressed-tensors"}
    through_others = {"pyyaml": "omegaconf", "huggingface_hub": "transformers"}  # requirements of theirs
    extras = [("options.extras_require", name) for name in ("gpu", "quantize", "vllm")]
    listed = [line for key in [("options", "install_requires"), *extras] for line in requirements(*key)]
    names = {re.split("[=<>]", line)[0] for line in listed}
    found = {}
    for file, tree in TREES.items():
        tops = {name.split(".")[0] for name in imported(tree)} - set(sys.stdlib_module_names) - {"dvlm"}
        wanted = {modules.get(top, top) for top in tops}
        found[file] = sorted(name for name in wanted if through_others.get(name, name) not in names)
    assert not places(found)
