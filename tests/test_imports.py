"""The arrows of docs/architecture.md: imports go one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each part may import from the package, besides itself, config and errors.
ALLOWED = {
    "ops_cc": set(),
    "tokenizer_cc": {"ops_cc"},
    "data": {"ops_cc", "tokenizer_cc"},
    "model": {"ops_cc", "tokenizer_cc", "data"},
    "training": {"ops_cc", "tokenizer_cc", "data", "model"},
    "cluster": {"ops_cc", "tokenizer_cc", "data", "model", "training"},
    "indexing": {"ops_cc", "tokenizer_cc", "data", "model"},
    "baselines": {"ops_cc", "tokenizer_cc", "data", "model", "indexing"},
    "evaluation": {"ops_cc", "tokenizer_cc", "data", "model", "indexing", "baselines"},
    "serving": {"ops_cc"},
    "cli": {"tokenizer_cc", "data", "training", "cluster", "indexing", "evaluation", "serving"},
    "train": {"cluster"},
    "config": set(),
    "errors": set(),
}
SOURCES = sorted(
    path for part in ALLOWED for path in [ROOT / f"{part}.py", *(ROOT / part).rglob("*.py")] if path.is_file()
)


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, as absolute dotted names."""
    package = ["dpsr", *path.relative_to(ROOT).with_suffix("").parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def forbidden_imports(part: str, modules: set[str]) -> set[str]:
    """The modules among ``modules`` that ``part`` must not import."""
    allowed = ALLOWED[part] | {part, "config", "errors", "__version__"}
    ours = {name for name in modules if name.split(".")[0] == "dpsr"}
    outside = {name for name in modules if name.split(".")[0] in {"tests", "benchmarks", "examples"}}
    return {name for name in ours if name.split(".")[1:2] and name.split(".")[1] not in allowed} | outside


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrow(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert not forbidden_imports(part, imported_modules(path))


def test_measures_and_report_know_nothing_of_the_rooms_above_them() -> None:
    above = {
        "measures": ("dpsr.evaluation.report", "dpsr.evaluation.compare"),
        "report": ("dpsr.evaluation.compare",),
    }
    for room, forbidden in above.items():
        for path in (ROOT / "evaluation" / room).rglob("*.py"):
            assert not {name for name in imported_modules(path) if name.startswith(forbidden)}, path


def test_serving_needs_only_the_op_library() -> None:
    for path in (ROOT / "serving").rglob("*.py"):
        ours = {name for name in imported_modules(path) if name.startswith(("dpsr.ops_cc",))}
        assert all(name.startswith("dpsr.ops_cc.library") for name in ours), path


def test_the_check_sees_a_forbidden_import(tmp_path: Path) -> None:
    assert forbidden_imports("data", {"dpsr.model.towers", "dpsr.config", "numpy"}) == {"dpsr.model.towers"}
    assert forbidden_imports("serving", {"dpsr.data.dataset.tables.Dataset"}) == {"dpsr.data.dataset.tables.Dataset"}
    assert forbidden_imports("model", {"tests.oracle", "dpsr.data.dataset.schema.Schema"}) == {"tests.oracle"}


@pytest.mark.parametrize(
    "module", ["dpsr", "dpsr.config", "dpsr.cli", "dpsr.serving.client", "dpsr.data.dataset.schema"]
)
def test_import_does_not_load_tensorflow(module: str) -> None:
    code = f"import sys, {module}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
