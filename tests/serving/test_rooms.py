"""Imports within ``serving`` go one way, without circles.

api -> manager -> engine -> the modules of ``GROUND``; fleet.proxy -> fleet, which knows servers by their protocol only.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SERVING = Path(__file__).resolve().parents[2] / "serving"
BELOW = {
    "api": {"api", "manager", "engine", ""},
    "manager": {"manager", "engine", ""},
    "engine": {"engine", ""},
    "fleet.proxy": {"fleet.proxy", "fleet"},
    "fleet": {"fleet"},
}
"""Room -> rooms that it may import; "" are the modules beside the rooms."""

GROUND = {"errors", "logs", "metrics", "refusals", "scratch", "tensors", "request_context", "tls"}
MODULES = {
    ".".join(path.relative_to(SERVING).with_suffix("").parts): path
    for path in SERVING.rglob("*.py")
    if path.name != "__init__.py"
}


def imports(path: Path) -> set[str]:
    """Modules of ``serving`` that a file imports, those for type checks included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dpsr.serving"):
            inner = (node.module or "").removeprefix("dpsr.serving").removeprefix(".")
            found |= {inner} if inner in MODULES else {f"{inner}.{alias.name}".lstrip(".") for alias in node.names}
    return found & set(MODULES)


def room(module: str) -> str:
    return module.rpartition(".")[0]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_room_imports_only_those_below(module: str) -> None:
    if room(module):
        for imported in imports(MODULES[module]):
            assert room(imported) in BELOW[room(module)]
            assert room(imported) or imported in GROUND
    elif module in GROUND:
        assert imports(MODULES[module]) <= GROUND


def test_there_are_no_circles() -> None:
    graph = {module: imports(path) for module, path in MODULES.items()}
    assert graph["server"] > {"api.grpc_api", "manager.models", "engine.batching"}
    TopologicalSorter(graph).prepare()  # raises for a circle
