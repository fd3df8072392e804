"""Write the pages of docs/ that are made from the code: flags, supported operations.

    python tools/make_docs.py

A test fails while a page is not what this would write.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from teflon import debug, pipe, plugins
from teflon.ir import ops
from teflon.ir.graph import Op
from teflon.samples import models
from teflon_common.rules import Rules
from teflon_etnaviv import chips as etnaviv
from teflon_etnaviv.exact.rules import RULES as ETNAVIV
from teflon_rocket.chips import CHIPS as ROCKET_CHIPS
from teflon_rocket.exact.rules import RULES as ROCKET

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Made by tools/make_docs.py: do not edit. -->"

OWN = ("cpu", "etnaviv", "rocket")
"""Drivers that come with the package: a stranger's that is installed is not in our pages."""

Kinds = Sequence[type[Op]]
Limits = tuple[Rules[Any, Any], Sequence[Any]]
"""A driver's rules, and the chips whose numbers they name."""

NPUS: dict[str, Limits] = {
    "rocket (RK3588)": (ROCKET, tuple(ROCKET_CHIPS.values())),
    "etnaviv (A311D, S905D3, i.MX8M Plus)": (
        ETNAVIV, [etnaviv.chip(name) for name in ("a311d", "s905d3", "imx8mp")],
    ),
}  # fmt: skip


def operations() -> list[type[Op]]:
    """Return every operation of the IR that a model file can have, by name."""
    return sorted((c for c in ops.CLASSES if c.tflite_name), key=lambda c: c.tflite_name)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    cells = [list(header), ["---"] * len(header), *map(list, rows)]
    return "\n".join("| " + " | ".join(c.replace("|", r"\|") for c in row) + " |" for row in cells)


def debug_page() -> str:
    """Return the page of TEFLON_DEBUG's flags."""
    drivers = plugins.discover().drivers
    added = {flag for driver in drivers.values() for flag in driver.debug_flags}
    rows = [(f"`{name}`", text) for name, text in debug.FLAGS.items() if name not in added]
    own = [(f"`{flag}`", text) for name in OWN if name in drivers
           for flag, text in drivers[name].debug_flags.items()]  # fmt: skip
    return f"""{NOTE}
# Debugging: TEFLON_DEBUG

Set the variable to one or several flags, with commas between them; what they show goes to stderr.

    TEFLON_DEBUG=partition,passes teflon run digits_int8 --device sim:rk3588

{table(("flag", "shows"), rows)}

Drivers add flags of their own (`Driver.debug_flags`), which `TEFLON_DEBUG=help` lists as well:

{table(("flag", "shows"), own)}

A flag that is misspelt is named with the one that was probably meant. A flag that is not set costs
a set lookup.

## Mesa's tables

`verbose` prints what Mesa's Teflon prints, in its columns and with the model file's own numbers, so
that both can be compared with `diff`:

    TEFLON_DEBUG=verbose teflon run digits_int8 --device sim:rk3588

An operation whose line says `supported` runs on the device. Tensors that a pass made come behind
the file's.

## Timeline

    TEFLON_DEBUG=trace TEFLON_TRACE=digits.json teflon run digits_int8 --device sim:rk3588

writes a timeline that <https://ui.perfetto.dev> and `chrome://tracing` open: reading, passes,
partitioning, compiling, uploading; for each inference converting, submitting, waiting; every
operation on the CPU, and on a simulated chip every job and task on the track of its core. The file
is written when the model is closed and when the program ends. These times are this computer's: on a
simulated chip they are the simulator's, not the hardware's.

The simulated RK3588 has the same jobs and operations once more under the heading `rk3588, modelled
time`, each where and when the chip would run it by the [clock](simulator.md#the-clock). Modelled
time begins at 0 when the chip is opened; it has nothing to do with the time above it.

![A timeline of SSDLite MobileDet on the simulated RK3588](trace.png)

The picture is drawn by `tools/draw_trace.py`.

## Variables

| variable | meaning |
| --- | --- |
| `TEFLON_TRACE` | the file of `trace` (without: `teflon-trace.json`); `%p` becomes the process |
| `TEFLON_DEVICE` | what the device `auto` stands for, e.g. `sim:rk3588` |
| `TEFLON_MODELS` | folders in which models are looked for by name, separated as in `PATH` |
| `TEFLON_CACHE` | the folder that keeps compiled programs, or `off` |
| `TEFLON_SKIP_PASSES` | names of passes to leave out, with commas between them |
| `NO_COLOR` | no colours on a terminal |

`teflon dump MODEL --device rk3588` shows the same stages without running anything.
"""


def operations_page() -> str:
    """Return the page of operations: who runs them, and every driver's limits."""
    rows = [
        (
            f"`{kind.tflite_name}`",
            " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
            *("yes" if kind in rules.lowered else "" for rules, _ in NPUS.values()),
        )
        for kind in operations()
    ]
    pages = [
        f"""{NOTE}
# Operations

The CPU reference runs all of them, bit for bit as TFLite's reference kernels do. What a driver does
not take runs there. An operation that is not in the table can be read and reported, not run.
`teflon check MODEL --device rk3588` says for each operation of a model where it goes and why.

{table(("operation", "what it does", *NPUS), rows)}
"""
    ]
    for name, limits in NPUS.items():
        pages.append(f"""## Limits of {name}

An operation that breaks one of these runs on the CPU, with the rule as the reason.

{table(("operations", "rule"), rows_of(limits))}
""")
    return "\n".join(pages)


def rows_of(limits: Limits) -> list[tuple[str, str]]:
    """Return (operations, rule) for each rule of a driver; equal ones are one row."""
    rules, chips = limits
    found: dict[str, list[type[Op]]] = {}
    for kinds, check in rules:
        found.setdefault(check.rule(*chips), []).extend(kinds)
    return [(_names(kinds, rules.lowered), rule) for rule, kinds in found.items()]


def _names(kinds: Kinds, every: Kinds) -> str:
    if set(kinds) == set(every):
        return "all"
    return ", ".join(f"`{kind.tflite_name}`" for kind in kinds)


def models_page() -> str:
    """Return the page of models that are known by name."""
    shipped = [(f"`{m.name}`", m.summary, m.licence) for m in models.SHIPPED]
    public = [(f"`{m.name}`", m.summary, m.licence, f"`{m.sha256}`") for m in models.PUBLIC]
    addresses = "\n".join(f"- `{m.name}`: <{m.url}>" for m in models.PUBLIC)
    return f"""{NOTE}
# Models by name

Every command takes a name of these tables in place of a file.

Shipped with the package:

{table(("name", "what", "licence"), shipped)}

Fetched from their publishers by `teflon models fetch NAME`, kept in the user's cache only if the
SHA-256 is the one of this table:

{table(("name", "what", "licence", "SHA-256"), public)}

{addresses}

A folder in `TEFLON_MODELS` that holds a file of the same file name comes first.
"""


def plugins_page() -> str:
    """Return the page of hooks, and of the interfaces behind them, each with its signature."""
    major, minor = pipe.INTERFACE_VERSION
    hooks = [_documented("", plugins.Hooks, name) for name in _methods(plugins.Hooks)]
    kinds = (pipe.Driver, pipe.Device, pipe.Program, pipe.Context, pipe.Executable, pipe.Fence,
             pipe.Recorder, pipe.Frontend, pipe.ModelFile)  # fmt: skip
    parts = []
    for kind in kinds:
        parts.append(f"## {kind.__name__}\n\n{inspect.getdoc(kind)}\n\n")
        parts += _attributes(kind)
        parts += [_documented(f"{kind.__name__}.", kind, name) for name in _methods(kind)]
    return f"""{NOTE}
# Plugins: the interface, version {major}.{minor}

A driver is a package with an entry point in the group `{plugins.DRIVERS}`; a frontend, which reads
a model format, has one in the group `{plugins.FRONTENDS}`. Whatever is wrong with one
(it cannot be imported, lacks a requirement, registers a taken name, is written for another
interface, raises while it looks for devices) is listed by `teflon devices` with the reason and
harms nobody, unless it was asked for by name: then it is the error. A driver states the interface
it was written for; another major version, or a higher minor one, is refused with both named.

`auto` takes the first device that can be used: drivers in alphabetical order (`cpu` never), the
nodes of each in the order in which it found them. `TEFLON_DEVICE` stands behind `auto`; a device
that is named wins over both.
How to begin: [add-a-driver.md](add-a-driver.md).

## Hooks

{"".join(hooks)}
{"".join(parts)}"""


def _attributes(kind: type) -> list[str]:
    """Return the attributes that a class declares: name, type, default, and the text below it."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = []
    for node, below in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            text = ""
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                text = f"{inspect.cleandoc(str(below.value.value))}\n\n"
            name = ast.unparse(node.target)
            found.append(f"### {kind.__name__}.{name}\n\n    {ast.unparse(node)}\n\n{text}")
    return found


def _methods(kind: type) -> list[str]:
    own = [n for n, m in vars(kind).items() if inspect.isfunction(m) or isinstance(m, property)]
    return [name for name in own if not name.startswith("_")]


def _documented(prefix: str, kind: type, name: str) -> str:
    """Return heading, signature and contract of a method."""
    member = vars(kind)[name]
    is_property = isinstance(member, property)
    text = inspect.getdoc(member) or ""
    signature = f"{name} -> {member.fget.__annotations__['return']}" if is_property else ""
    if not is_property:
        plain = re.sub("(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(member)))
        signature = name + plain.replace("(self, ", "(").replace("(self)", "()")
    return f"### {prefix}{name}\n\n    {signature}\n\n{text}\n\n"


def pages() -> dict[Path, str]:
    """Return the text of every generated page."""
    docs = ROOT / "docs"
    return {
        docs / "debug.md": debug_page(),
        docs / "supported-ops.md": operations_page(),
        docs / "models.md": models_page(),
        docs / "plugins.md": plugins_page(),
    }


def main() -> int:
    """Write all pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
