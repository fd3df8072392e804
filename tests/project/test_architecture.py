"""Who may import whom: the table of docs and design, held against every import statement."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.paths import ROOT

BASE = (
    "teflon.errors",
    "teflon.forks",
    "teflon.interrupts",
    "teflon.debug",
    "teflon.trace",
    "teflon.workers",
    "teflon.timing.schedule",
)
"""Modules that any room may use: they know nothing of ours but each other."""
CONTRACT = ("teflon.pipe", "teflon.plugins", "teflon.devices")
CORE = (*BASE, "teflon.ir", *CONTRACT)
FACTS = (
    "registers", "descriptors", "states", "addresses", "chips", "features", "uapi", "parameters",
    "counters", "rates", "effort",
)  # fmt: skip

ROOMS: dict[str, tuple[str, ...]] = {
    "teflon.errors": (),
    "teflon.timing.schedule": (),
    "teflon.forks": ("teflon.errors",),
    "teflon.interrupts": (),
    "teflon.workers": ("teflon.forks", "teflon.interrupts"),
    "teflon.debug": ("teflon.errors", "teflon.forks"),
    "teflon.trace": ("teflon.debug", "teflon.forks"),
    "teflon.ir": BASE,
    "teflon.pipe": (*BASE, "teflon.ir"),
    "teflon.plugins": (*BASE, "teflon.ir", "teflon.pipe"),
    "teflon.devices": (*BASE, "teflon.ir", "teflon.pipe", "teflon.plugins"),
    "teflon.frontend.mapped": ("teflon.errors",),
    "teflon.frontend.text": (*BASE, "teflon.ir", "teflon.pipe", "teflon.plugins"),
    "teflon.frontend.onnx": (
        *BASE, "teflon.ir", "teflon.pipe", "teflon.plugins", "teflon.frontend.mapped",
    ),
    "teflon.frontend.tflite": (
        *BASE, "teflon.ir", "teflon.pipe", "teflon.plugins", "teflon.frontend.mapped",
    ),
    "teflon.compile": CORE,
    "teflon.inspect": (*CORE, "teflon.compile"),
    "teflon.run": (*CORE, "teflon.compile", "teflon.inspect"),
    "teflon.timing": (*CORE, "teflon.compile", "teflon.inspect", "teflon.run"),
    "teflon.frontend.delegate": (
        *CORE, "teflon.compile", "teflon.inspect", "teflon.run", "teflon.frontend.tflite",
    ),
    "teflon.board": CORE,
    "teflon.samples": (*BASE, "teflon.ir"),
    "teflon.quantize": (*CORE, "teflon.samples"),
    "teflon.cli": ("teflon",),
    "teflon": ("teflon",),
    "teflon_common": (*BASE, "teflon.ir", "teflon.pipe"),
    "teflon_common.conformance": (
        *CORE, "teflon.compile", "teflon.inspect", "teflon.run", "teflon_common",
    ),
}  # fmt: skip
"""Room -> what it may import besides itself; the longest name that fits counts.

The rooms stand in the order in which a model walks through them: each knows only those before it.
Only the door `teflon` and the command line know all. No room knows a frontend but the delegate,
which is one.
"""


def packages() -> list[Path]:
    """The folders of everything that is shipped."""
    return [ROOT / "teflon", *sorted(ROOT.glob("drivers/*/teflon_*"))]


def drivers() -> list[str]:
    return [p.name for p in packages() if p.name not in ("teflon", "teflon_common")]


def allowed(module: str, door: bool) -> tuple[str, ...]:
    """Return the prefixes that a module may import."""
    package = module.split(".")[0]
    if package in drivers():
        return _driver(package, module, door)
    room = max((r for r in ROOMS if within(module, (r,))), key=len)
    return (*ROOMS[room], room)


def _driver(package: str, module: str, door: bool) -> tuple[str, ...]:
    facts = tuple(f"{package}.{name}" for name in FACTS)
    if within(module, (f"{package}.simulator",)):
        return (*BASE, "teflon_common", *facts, f"{package}.simulator")
    if within(module, facts):
        return (*BASE, "teflon_common", *facts)
    compiler = (*CORE, "teflon_common", package)
    return compiler if door else (*compiler, f"!{package}.simulator")


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in prefixes)


def module_name(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[str, bool]]:
    """Yield (what is imported, whether late or for type checkers only) for imports of ours."""
    inside = {id(n) for late in ast.walk(tree) if _is_late(late) for n in ast.walk(late)}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0].startswith("teflon"):
                yield name, id(node) in inside


def _is_late(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef)


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def violations(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Return every import of a module that the table does not allow."""
    door = is_package and module in drivers()
    may = allowed(module, door)
    never = tuple(p[1:] for p in may if p.startswith("!"))
    found = []
    for name, lazily in imports(ast.parse(source), module, is_package=is_package):
        parent = name.rpartition(".")[0]
        fine = within(name, may) or within(parent, may)
        early = door and not lazily and within(name, (module,))
        if not fine or within(name, never) or within(parent, never) or early:
            found.append(f"{module} imports {name}" + (" outside a function" if early else ""))
    return found


def source_files() -> list[tuple[Path, Path]]:
    return [(f, p) for p in packages() for f in sorted(p.rglob("*.py"))]


@pytest.mark.parametrize("package", packages(), ids=lambda p: p.name)
def test_imports_follow_the_table(package: Path) -> None:
    files = [f for f, p in source_files() if p == package]
    assert files
    found = [
        problem
        for file in files
        for problem in violations(
            file.read_text("utf-8"),
            module_name(file, package),
            is_package=file.name == "__init__.py",
        )
    ]
    assert not found


@pytest.mark.parametrize(
    ("source", "module", "is_package", "count"),
    [
        ("from teflon.errors import ModelError", "teflon.ir.text", False, 0),
        ("from teflon.pipe import Device", "teflon.ir.text", False, 1),
        ("import teflon.run.model", "teflon.ir.text", False, 1),
        ("def f():\n    from teflon.run import model", "teflon.pipe", False, 1),
        ("from teflon import debug", "teflon.ir.passes", False, 0),
        ("from . import graph", "teflon.ir", True, 0),
        ("from .. import pipe", "teflon.ir.text", False, 1),
        ("from ..graph import Op", "teflon.ir.ops.pooling", False, 0),
        ("from teflon_rocket.device import x", "teflon.run.model", False, 1),
        ("from teflon.frontend import tflite", "teflon_rocket.lower", False, 1),
        ("from teflon_common.program import pack", "teflon_rocket.program", False, 0),
        ("from teflon_cpu.device import CpuDevice", "teflon_rocket.lower", False, 1),
        ("from teflon_rocket.simulator.machine import M", "teflon_rocket.context", False, 1),
        ("from teflon_rocket import simulator", "teflon_rocket.context", False, 1),
        ("from .simulator import machine", "teflon_rocket.context", False, 1),
        ("def f():\n    from teflon_rocket.simulator import x", "teflon_rocket", True, 0),
        ("def f():\n    from .device import x", "teflon_rocket", True, 0),
        ("from teflon_rocket.device import x", "teflon_rocket", True, 1),
        ("if TYPE_CHECKING:\n    from .device import x", "teflon_rocket", True, 0),
        ("if True:\n    from .device import x", "teflon_rocket", True, 1),
        ("from teflon.pipe import Driver", "teflon_rocket", True, 0),
        ("from teflon_rocket.registers import CNA", "teflon_rocket.simulator.cna", False, 0),
        ("from ..registers import CNA", "teflon_rocket.simulator.cna", False, 0),
        ("from .machine import M", "teflon_rocket.simulator.kernel", False, 0),
        ("from teflon_rocket.coefs import pack", "teflon_rocket.simulator.cna", False, 1),
        ("from .. import regcmd", "teflon_rocket.simulator.cna", False, 1),
        ("from teflon.ir.types import DType", "teflon_rocket.simulator.cna", False, 1),
        ("from teflon.pipe import Winsys", "teflon_rocket.simulator.kernel", False, 1),
        ("from teflon_rocket.lower import x", "teflon_rocket.registers.cna", False, 1),
        ("from teflon.cli import main", "teflon_common.drm", False, 1),
        ("import numpy, os.path", "teflon.errors", False, 0),
        ("from teflon import debug", "teflon.errors", False, 1),
        ("from teflon.cli import common", "teflon.samples.models", False, 1),
        ("from teflon.frontend.tflite import reader", "teflon.compile.source", False, 1),
        ("def f():\n    from teflon.frontend import text", "teflon.compile.source", False, 1),
        ("from teflon.frontend.delegate import rows", "teflon.frontend.tflite.reader", False, 1),
        ("from teflon.frontend.tflite import node", "teflon.frontend.delegate.rows", False, 0),
        ("from teflon.run.model import Model", "teflon.compile.artefact", False, 1),
        ("if TYPE_CHECKING:\n    from teflon.run.model import M", "teflon.pipe.device", False, 1),
        ("from teflon.timing.estimate import estimate", "teflon.run.load", False, 1),
        ("from teflon.timing.schedule import Span", "teflon.ir.text", False, 0),
    ],
)
def test_the_table_is_read_right(source: str, module: str, is_package: bool, count: int) -> None:
    assert len(violations(source, module, is_package=is_package)) == count


def graph_of_imports() -> dict[str, set[str]]:
    """Return module -> the modules that it imports, those for type checkers included.

    An import inside a function is left out: it happens when both modules are there.
    """
    files = {module_name(file, package): file for file, package in source_files()}
    found: dict[str, set[str]] = {}
    for module, file in files.items():
        tree = _without_functions(ast.parse(file.read_text("utf-8")))
        names = [n for n, _ in imports(tree, module, is_package=file.name == "__init__.py")]
        meant = {name if name in files else name.rpartition(".")[0] for name in names}
        found[module] = (meant & files.keys()) - {module}
    return found


def _without_functions(tree: ast.AST) -> ast.AST:
    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

    found: ast.AST = Strip().visit(tree)
    return found


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return modules of which each imports the next and the last the first; none without such."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_there_are_no_import_cycles() -> None:
    """Imports for type checkers count too."""
    assert cycle(graph_of_imports()) == []


def test_cycles_are_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()})
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    graph = graph_of_imports()
    assert "teflon.ir.types" in graph["teflon.ir.graph"]
    assert "teflon.pipe.device" in graph["teflon.pipe.driver"], "only type checkers import it"


LONGEST = 400
MEDIAN = 200


def test_files_stay_short() -> None:
    """Tables of facts excepted."""
    lines = {
        str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines())
        for file, _ in source_files()
    }
    long = {name: n for name, n in lines.items() if n > LONGEST and not name.endswith("/schema.py")}
    assert not long
    assert statistics.median(lines.values()) < MEDIAN


def test_the_page_has_every_room() -> None:
    """docs/architecture.md names each room of the table, or the room that it is part of."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = [room for room in ROOMS if room not in ("teflon", "teflon.cli", "teflon.samples")]
    parts = ("teflon.frontend.mapped", "teflon_common.conformance")
    missing = [room for room in named if f"`{room}`" not in page and room not in parts]
    assert not missing
