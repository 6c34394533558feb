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
    "page": {"ops_cc", "tokenizer_cc", "data", "model", "indexing", "baselines", "evaluation", "serving"},
    "cli": {"tokenizer_cc", "data", "model", "training", "cluster", "indexing", "evaluation", "serving", "page"},
    "train": {"cluster"},
    "config": set(),
    "errors": set(),
    "processes": set(),
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
    allowed = ALLOWED[part] | {part, "config", "errors", "processes", "__version__"}
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


def loaded_modules(path: Path) -> set[str]:
    """The modules that a file imports, also inside functions but not for type checkers alone."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    names = set()
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)
    return names


def sibling_imports(path: Path) -> set[str]:
    """The modules among ``loaded_modules`` that are in the same folder, by their names."""
    folder = ".".join(["dpsr", *path.relative_to(ROOT).parts[:-1]])
    siblings = {other.stem for other in path.parent.glob("*.py")} - {"__init__"}
    return {name.rpartition(".")[2] for name in loaded_modules(path) if name.rpartition(".")[0] == folder} & siblings


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle, in its order; empty where there is none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        found = next((ring for other in sorted(graph[module]) if (ring := visit(other, [*path, module]))), [])
        done.add(module)
        return found

    return next((ring for module in sorted(graph) if (ring := visit(module, []))), [])


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES} - {ROOT}), ids=lambda path: path.name)
def test_no_folder_has_a_circle_of_imports(folder: Path) -> None:
    modules = {path.stem: sibling_imports(path) for path in folder.glob("*.py") if path.stem != "__init__"}
    assert circle(modules) == []


@pytest.mark.parametrize("part", [part for part in ALLOWED if (ROOT / part).is_dir()])
def test_no_part_has_a_circle_of_imports_between_its_rooms(part: str) -> None:
    rooms = {path.stem for path in (ROOT / part).iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    graph: dict[str, set[str]] = {room: set() for room in rooms - {"__init__"}}
    for path in (ROOT / part).rglob("*.py"):
        room = path.relative_to(ROOT / part).parts[0].removesuffix(".py")
        if room in graph:
            imported = {name.split(".")[2] for name in loaded_modules(path) if name.startswith(f"dpsr.{part}.")}
            graph[room] |= imported & graph.keys() - {room}
    assert circle(graph) == []


def test_the_check_sees_a_circle() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_source_file_is_long() -> None:
    """Files of 400 lines hold more than one idea; generated tables and tests aside."""
    folders = [ROOT / part for part in (*ALLOWED, "benchmarks", "deploy") if (ROOT / part).is_dir()]
    found = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*"))]
    sources = [path for path in found if path.suffix in (".py", ".pyi", ".cc", ".h") and "_test." not in path.name]
    assert ROOT / "ops_cc" / "core" / "dense.cc" in sources
    lengths = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in sources}
    assert {name: lines for name, lines in lengths.items() if lines >= 400} == {}


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
