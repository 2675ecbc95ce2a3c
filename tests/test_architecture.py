"""The arrows of docs/architecture.md, read from the imports themselves; any other arrow fails."""

import ast
import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from va import settings

ROOT = Path(__file__).resolve().parents[1] / "va"

# Who may import whom, by the first part of the module's path below `va`. Every part may import itself.
FOUNDATION = {"settings", "errors", "files", "bounded", "locks", "version"}
COMMANDS = {
    "options",
    "settings",
    "console",
    "errors",
    "version",
    "data",
    "extract",
    "train",
    "evaluate",
    "demo",
    "doctor",
    "reproduce",
    "reproduce_config",
    "signals",
    "cores",
    "hub",
    "hub_config",
    "hub_pack",
}
ALLOWED = {
    "errors": set(),
    "version": set(),
    "settings": {"errors", "bounded"},
    "files": {"errors"},
    "bounded": {"errors"},
    "locks": {"errors", "files"},
    "options": {"settings"},
    "console": {"signals"},
    "device": {"errors"},
    "weights": {"errors", "files", "bounded"},
    "doctor": {"weights"},
    # Shares run directories, so it loads them, to be sure that what it sends or fetched is whole.
    "hub": FOUNDATION | {"weights", "hub_pack"},
    "hub_pack": FOUNDATION | {"data", "train", "hub_card"},
    "hub_card": {"data", "weights"},
    "hub_config": {"settings"},
    "signals": set(),
    "cores": set(),
    # Where work runs; what the work is, stages tell it.
    "engine": FOUNDATION | {"cores", "signals"},
    "data": FOUNDATION,
    "model": FOUNDATION,
    "extract": FOUNDATION | {"data", "model", "device", "weights", "cores", "engine"},
    "train": FOUNDATION | {"data", "model", "device", "engine"},
    # A run's encoders loaded again, and trained on.
    "train.encoding": FOUNDATION | {"data", "extract"},
    "train.finetuning": FOUNDATION | {"data", "model", "device", "extract"},
    "evaluate": FOUNDATION | {"data", "model", "device"},
    # What was never cached is decoded and encoded by stage one's own code.
    "evaluate.media": FOUNDATION | {"data", "model", "device", "engine", "evaluate", "extract"},
    "demo": {"data", "extract", "train", "evaluate"},
    "reproduce": FOUNDATION | {"data", "extract", "train", "evaluate", "reproduce_config", "signals"},
    "reproduce_config": {"extract", "train", "settings"},
    # What `va.load` gives: everything behind it for users of Python.
    "api": {"data", "extract", "train", "evaluate", "model", "device", "errors"},
    "commands": COMMANDS,
    "cli": COMMANDS | {"commands"},
    "__main__": {"cli"},
}
# The named exceptions: NumPy leaves that any stage may import, and runs loaded by the evaluation.
LEAVES = {
    f"va.evaluate.{name}" for name in ("metrics", "intervals", "protocol", "assemble", "smoothing", "diagnostics")
}
# Every part of the evaluation may hold a run, and `media` its encoders.
RUNS = {"va.train.checkpoint"}
EXCEPTIONS = {"va.evaluate.row_scores": {"va.train.seeds"}}
ENCODERS = {"va.train.encoding"}
NESTED = [name for name in ALLOWED if "." in name]
"""Parts inside a part that have rules of their own."""
HEAVY = {
    "numpy",
    "torch",
    "transformers",
    "open_clip",
    "h5py",
    "av",
    "cv2",
    "librosa",
    "scipy",
    "plotly",
    "safetensors",
    "huggingface_hub",
    "ray",
}
STANDARD_ONLY = ["cli", "settings", "options", "errors", "files", "bounded", "locks", "signals", "cores", "version"]
STANDARD_ONLY += [f"{stage}.config" for stage in ("data", "engine", "extract", "train", "evaluate")]
STANDARD_ONLY += ["train.ablate_config", "train.compare_config", "train.finetune_config", "hub_config"]
STANDARD_ONLY += ["train.finetuning.tower_config"]
STANDARD_ONLY += ["evaluate.predict_config", "reproduce_config", "data.check_config"]
STANDARD_ONLY += [f"commands.{file.stem}" for file in (ROOT / "commands").glob("[a-z]*.py")]


def modules() -> dict[str, Path]:
    found = {}
    for file in ROOT.rglob("*.py"):
        parts = ["va", *file.relative_to(ROOT).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imports_of(tree: ast.AST, *, top_level_only: bool) -> set[str]:
    """Give every imported module; `from va.data import corpus` counts as `va.data.corpus` where that is a module."""
    found = set()
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else str(node.module))
    return found


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "va"


def violations(module: str, imported: set[str]) -> list[str]:
    part = part_of(module)
    nested = next((name for name in NESTED if f"{module}.".startswith(f"va.{name}.")), part)
    allowed = ALLOWED[nested]
    excepted = LEAVES | EXCEPTIONS.get(module, set()) | (RUNS if part == "evaluate" else set())
    excepted |= ENCODERS if nested == "evaluate.media" else set()
    return [
        f"{module} -> {target}"
        for target in sorted(name for name in imported if name.split(".")[0] == "va")
        if part_of(target) not in {part, "va", *allowed} and target not in excepted
    ]


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"va"}))
def test_imports_follow_the_arrows(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert violations(module, imports_of(tree, top_level_only=False)) == []


def test_a_wrong_arrow_is_seen() -> None:
    tree = ast.parse("def late():\n    from va.train import loop\n    from va.evaluate import metrics\n")
    assert violations("va.extract.pipeline", imports_of(tree, top_level_only=False)) == [
        "va.extract.pipeline -> va.train.loop"
    ]
    tree = ast.parse("from va.extract import pipeline\n")
    imported = imports_of(tree, top_level_only=False)
    assert violations("va.evaluate.score", imported) == ["va.evaluate.score -> va.extract.pipeline"]
    assert violations("va.evaluate.media.video", imported) == []


@pytest.mark.parametrize("name", STANDARD_ONLY)
def test_configs_and_cli_import_nothing_heavy(name: str) -> None:
    tree = ast.parse(MODULES[f"va.{name}"].read_text(encoding="utf-8"))
    assert not {module.split(".")[0] for module in imports_of(tree, top_level_only=True)} & HEAVY


@pytest.mark.parametrize("name", ["metrics", "intervals", "protocol", "assemble", "smoothing", "diagnostics"])
def test_leaves_need_no_torch(name: str) -> None:
    tree = ast.parse(MODULES[f"va.evaluate.{name}"].read_text(encoding="utf-8"))
    assert "torch" not in {module.split(".")[0] for module in imports_of(tree, top_level_only=False)}


@pytest.mark.parametrize(("library", "user"), [("rich", "va.console"), ("ray", "va.engine.cluster")])
def test_one_module_only_imports_it(library: str, user: str) -> None:
    users = {
        module
        for module, file in MODULES.items()
        if any(
            name.split(".")[0] == library
            for name in imports_of(ast.parse(file.read_text(encoding="utf-8")), top_level_only=False)
        )
    }
    assert users == {user}


def test_no_text_that_users_read_speaks_in_numbers_of_the_method_page() -> None:
    """Help texts, errors and pages; other docstrings and comments point to docs/method.md by number."""
    code = re.compile(r"\b(F\d+|R\d+|settled \d+)\b")
    for module, file in MODULES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                assert not code.search(node.value) or "docs/method.md" in node.value, (module, node.value)
    assert not [(setting.name, setting.help) for setting in all_settings() if code.search(setting.help)]


def all_settings() -> list[settings.Setting]:
    """Give every field of every config of a command."""
    configs = [importlib.import_module(module) for module in MODULES if module.endswith("config")]
    classes = {found for config in configs for found in vars(config).values() if dataclasses.is_dataclass(found)}
    return [setting for found in classes if isinstance(found, type) for setting in settings.settings_of(found)]


def test_nothing_can_unpickle() -> None:
    forbidden = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
    for module, file in MODULES.items():
        source = file.read_text(encoding="utf-8")
        tree = ast.parse(source)
        assert not {name.split(".")[0] for name in imports_of(tree, top_level_only=False)} & forbidden, module
        assert "allow_pickle=True" not in source, module
        assert "torch.load" not in source, module
