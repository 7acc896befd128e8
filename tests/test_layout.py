"""Imports point one way: core knows nobody, stages know core and ports, shell knows no stage, the roots know all."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "gateway"
CORE_LIBRARIES = {"msgspec", "orjson"}
CORE_FORBIDDEN_STDLIB = {"asyncio", "time", "random", "os", "socket", "logging"}
SHARED = {
    "gateway.attempts",
    "gateway.bulk",
    "gateway.calls",
    "gateway.exchange",
    "gateway.ports",
    "gateway.ports_memory",
    "gateway.ports_vision",
    "gateway.receipts",
    "gateway.relays",
    "gateway.remembering",
    "gateway.repairs",
    "gateway.seeing",
    "gateway.tasks",
    "gateway.tunnel",
}
ROOTS = {
    "gateway.app",
    "gateway.compose",
    "gateway.compose_memory",
    "gateway.compose_pipeline",
    "gateway.compose_vision",
    "gateway.listening",
    "gateway.worker",
    "gateway.supervisor",
    "gateway.offline",
    "gateway.cli",
    "gateway.__main__",
    "gateway.demo",
}
KNOW_SETTINGS = ROOTS | {
    "gateway.settings",
    "gateway.settings_check",
    "gateway.settings_check_memory",
    "gateway.settings_check_vision",
    "gateway.settings_load",
    "gateway.settings_reference",
    "gateway.settings_section",
    "gateway.settings_clients",
    "gateway.settings_memory",
    "gateway.settings_upstreams",
    "gateway.settings_vision",
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The module's dotted name."""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, at whatever depth, for run time or for types."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def is_allowed(module: str, imported: str) -> bool:
    """Whether the layout lets this module import that one."""
    top = imported.partition(".")[0]
    if module.startswith("gateway.core"):
        if top == "gateway":
            return imported.startswith("gateway.core")
        return top in CORE_LIBRARIES or (top in sys.stdlib_module_names and top not in CORE_FORBIDDEN_STDLIB)
    if top != "gateway" or imported == "gateway":
        return True
    if imported.startswith("gateway.settings"):
        return module in KNOW_SETTINGS
    if module.startswith("gateway.fitting"):
        return imported.startswith(("gateway.core", "gateway.fitting")) or imported in SHARED
    if module.startswith("gateway.stages"):
        return imported.startswith(("gateway.core", "gateway.fitting")) or imported in SHARED
    if module.startswith("gateway.shell"):
        return imported.startswith(("gateway.core", "gateway.shell", "gateway.data")) or imported in SHARED
    return True


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    """No module imports what stands above it."""
    module = name_of(path)

    wrong = [imported for imported in imports_of(path) if not is_allowed(module, imported)]

    assert wrong == []


def test_nothing_but_roots_imports_the_roots() -> None:
    """The composition root is imported by command lines only."""
    wrong = {
        name_of(path): imported
        for path in MODULES
        for imported in imports_of(path)
        if imported in ROOTS and name_of(path) not in ROOTS
    }

    assert wrong == {}


def test_there_are_no_import_cycles() -> None:
    """Modules can be read in an order in which each needs only earlier ones; imports for types alone do not count."""
    graph = {name_of(path): set(run_time_imports(path)) for path in MODULES}
    done: set[str] = set()
    while ready := {name for name, needs in graph.items() if name not in done and not (needs & set(graph)) - done}:
        done |= ready

    assert set(graph) - done == set()


def run_time_imports(path: Path) -> Iterator[str]:
    """Imports at module level, outside `if TYPE_CHECKING`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module or ""


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=name_of)
def test_packages_hold_no_logic(path: Path) -> None:
    """An `__init__.py` holds a docstring and a version at most."""
    body = ast.parse(path.read_text(encoding="utf-8")).body

    assert all(isinstance(node, ast.Expr | ast.Assign) for node in body)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    """A module with code starts with a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    assert not tree.body or ast.get_docstring(tree)
