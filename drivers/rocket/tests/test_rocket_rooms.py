"""Who knows whom within the driver: no cycles, and general code knows no kind of operation."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.project.test_architecture import imports, module_name, within

PACKAGE = ROOT / "drivers/rocket/teflon_rocket"
NAME = "teflon_rocket"

GENERAL = (
    "assemble", "memory", "jobs", "timing", "work", "text", "context", "transfer", "program",
    "operations.base", "operations.commands", "operations.data", "operations.dpu",
    "operations.dpu_rdma", "operations.lists", "operations.numbers", "simulator.machine",
    "simulator.kernel", "simulator.engine", "simulator.timeonly",
)  # fmt: skip
KINDS = ("operations.convolution", "exact", "mesa", "simulator.convolution")
NEVER = (
    (GENERAL, KINDS),
    (("operations",), ("exact", "mesa", "assemble", "memory", "jobs", "text", "timing")),
    (("exact",), ("mesa",)),
    (("mesa",), ("exact",)),
)
"""Modules, and what none of them may import."""


def modules() -> dict[str, set[str]]:
    """Every module of the package with those of the package that it imports, late ones too."""
    files = {module_name(file, PACKAGE): file for file in PACKAGE.rglob("*.py")}
    found = {}
    for name, file in files.items():
        tree = ast.parse(file.read_text("utf-8"))
        names = {n for n, _ in imports(tree, name, is_package=file.name == "__init__.py")}
        found[name] = {_module(n, files) for n in names if within(n, (NAME,))} - {NAME, name}
    return found


def _module(name: str, files: dict[str, Path]) -> str:
    """Return the module in which an imported name is defined."""
    return name if name in files else name.rpartition(".")[0]


def test_there_are_no_cycles() -> None:
    order = list(TopologicalSorter(modules()).static_order())
    assert len(order) > 60


@pytest.mark.parametrize(("who", "what"), NEVER)
def test_nobody_imports_what_is_not_for_them(who: tuple[str, ...], what: tuple[str, ...]) -> None:
    users = tuple(f"{NAME}.{name}" for name in who)
    forbidden = tuple(f"{NAME}.{name}" for name in what)
    found = modules()
    for name in (*users, *forbidden):
        assert any(within(module, (name,)) for module in found), f"{name} is no module"
    wrong = {
        f"{module} imports {other}"
        for module, used in found.items()
        if within(module, users)
        for other in used
        if within(other, forbidden)
    }
    assert not wrong
