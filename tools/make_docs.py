"""Write the pages of docs/ that are made from the code: flags, operations, models, plugins.

    python tools/make_docs.py

A test fails when a page differs from what this tool writes.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from teflon import debug, ir, pipe, plugins
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
"""Drivers that come with the package. Our pages do not show other drivers that are installed."""

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

Set the variable `TEFLON_DEBUG` to one or several flags, separated by commas. Their output goes to
stderr.

    TEFLON_DEBUG=partition,passes teflon run digits_int8 --device sim:rk3588

{table(("flag", "shows"), rows)}

Drivers add their own flags (`Driver.debug_flags`). `TEFLON_DEBUG=help` lists them too:

{table(("flag", "shows"), own)}

For an unknown flag, a message proposes the flag that you probably meant. A flag that is not set
costs almost no time.

## Mesa's tables

`verbose` prints the tables of Mesa's Teflon, with the same columns and with the numbers of the
model file. So you can compare both outputs with `diff`:

    TEFLON_DEBUG=verbose teflon run digits_int8 --device sim:rk3588

An operation whose line says `supported` runs on the device. The tensors of the file come first,
then the tensors that passes made.

## Timeline

    TEFLON_DEBUG=trace TEFLON_TRACE=digits.json teflon run digits_int8 --device sim:rk3588

writes a timeline, which <https://ui.perfetto.dev> and `chrome://tracing` can open. It shows

- the way to a loaded model: reading, passes, partitioning, compiling, uploading;
- for each inference: converting, submitting, waiting;
- every operation on the CPU, and on a simulated chip every job and task, on the track of its core.

The file is written when the model is closed, and again when the program ends. The times are those
of this computer. On a simulated chip they are the times of the simulation, not of the hardware.

For the simulated RK3588 the file also has the heading `rk3588, modelled time`. It shows the same
jobs and operations on the core and at the time that the [clock](simulator.md#the-clock) of the
chip gives them. Modelled time begins at 0 when the chip is opened. It is independent of the times
above.

![A timeline of SSDLite MobileDet on the simulated RK3588](trace.png)

`tools/draw_trace.py` draws this picture.

## Variables

| variable | meaning |
| --- | --- |
| `TEFLON_TRACE` | the file of `trace` (default: `teflon-trace.json`); `%p` is the process number |
| `TEFLON_DEVICE` | the device for which `auto` stands, such as `sim:rk3588` |
| `TEFLON_MODELS` | folders with models that can be found by name, separated as in `PATH` |
| `TEFLON_CACHE` | the folder of the compile cache, or `off` |
| `TEFLON_SKIP_PASSES` | names of passes to leave out, separated by commas |
| `NO_COLOR` | no colours on a terminal |

`teflon dump MODEL --device rk3588` shows the graph, the partitions and the programs without
running the model.
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

The CPU reference runs all these operations, bit for bit like TFLite's reference kernels. An
operation that a driver does not support runs there. Teflon can read and report an operation that
is not in this table, but cannot run it. `teflon check MODEL --device rk3588` says for each
operation of a model where it runs, and why.

{table(("operation", "what it does", *NPUS), rows)}
"""
    ]
    for name, limits in NPUS.items():
        pages.append(f"""## Limits of {name}

An operation that breaks one of these rules runs on the CPU. The rule is the reason in reports.

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
    return ", ".join(f"`{kind.tflite_name}`" for kind in kinds if kind.tflite_name)


def models_page() -> str:
    """Return the page of models that are known by name."""
    shipped = [(f"`{m.name}`", m.summary, m.licence) for m in models.SHIPPED]
    public = [(f"`{m.name}`", m.summary, m.licence, f"`{m.sha256}`") for m in models.PUBLIC]
    addresses = "\n".join(f"- `{m.name}`: <{m.url}>" for m in models.PUBLIC)
    return f"""{NOTE}
# Models by name

Every command accepts a name of these tables instead of a file.

These models come with the package:

{table(("name", "what", "licence"), shipped)}

`teflon models fetch NAME` downloads these models from their publishers into the user's cache
folder. It refuses a file with another SHA-256 than this:

{table(("name", "what", "licence", "SHA-256"), public)}

{addresses}

If a folder in `TEFLON_MODELS` has a file of the same name, that file is used instead.
"""


def plugins_page() -> str:
    """Return the page of hooks, and of the interfaces behind them, each with its signature."""
    major, minor = pipe.INTERFACE_VERSION
    hooks = [_documented("", plugins.Hooks, name) for name in _methods(plugins.Hooks)]
    kinds = (pipe.Driver, pipe.Node, pipe.Option, pipe.Device, pipe.Cost, pipe.Program,
             pipe.Context, pipe.Executable, pipe.Fence, pipe.Recorder, pipe.VirtualNode,
             pipe.Kernel, pipe.OpenFile, pipe.Caller, pipe.Frontend, pipe.ModelFile)  # fmt: skip
    parts = []
    for kind in kinds:
        parts.append(f"## {kind.__name__}\n\n{inspect.getdoc(kind)}\n\n")
        parts += _attributes(kind)
        parts += [_documented(f"{kind.__name__}.", kind, name) for name in _methods(kind)]
    return f"""{NOTE}
# Plugins: the interface, version {major}.{minor}

A plugin is a package with an entry point. A driver has its entry point in the group
`{plugins.DRIVERS}` ([add a driver](add-a-driver.md)). A frontend reads a model format, and has its
entry point in the group `{plugins.FRONTENDS}` ([add a frontend](add-a-frontend.md)).

A plugin states the version of the interface that it was written for. Teflon refuses a plugin for
another major version, or for a higher minor version.

A broken plugin does not disturb the other plugins. It is broken if it cannot be imported, lacks a
requirement, has a name that is taken, was written for another interface, or if its hook returns
something wrong. `teflon devices` lists broken plugins with the reason, and exceptions of a driver
that looks for devices. It is an error to ask for a broken driver by name. The error for a model
file that no frontend recognises names the broken frontends.

The device `auto` is the one that `TEFLON_DEVICE` names. Without this variable, it is the first
node that can be used. Teflon looks at drivers in alphabetical order, and at the nodes of a driver
in the order in which the driver finds them. It never chooses `cpu`.

A driver of others is guarded. What its methods raise, other than a `TeflonError`, and results of
another type than the interface says, such as outputs of another type, shape or number than the
program's, are a `DriverFault`: one sentence that names the driver. What `probe` returns beside
nodes of this driver with its chips, `teflon devices` lists as the problem of a node.

## Imports

{_imports()}

## Hooks

{"".join(hooks)}
{"".join(parts)}{graph_part()}"""


def _imports() -> str:
    """Return from where a plugin imports what this page names."""
    public = {
        "teflon.pipe": pipe.__all__,
        "teflon.plugins": ["hookimpl"],
        "teflon.errors": ["TeflonError", "DriverUnavailable", "OptionError", "EncodingError",
                          "UnsupportedOperation", "ProgramError", "DeviceError", "DeviceTimeout"],
        "teflon.ir": ir.__all__,
        "teflon.ir.types": ["NO_PADDING"],
    }  # fmt: skip
    rows = [
        f"    from {module} import {', '.join(sorted(names))}" for module, names in public.items()
    ]
    return (
        "\n".join([*rows, "    from teflon.ir import ops  # ops.Conv2D, ...: see below"])
        + "\n\nThe package `teflon_common` has what drivers share"
        " ([add a driver](add-a-driver.md)); no plugin imports anything else of `teflon`."
    )


def graph_part() -> str:
    """Return what a driver reads of a graph: the classes, and the fields of all operations."""
    parts = ["## Graphs\n\nA driver gets a `Graph`, and looks at its operations by class and field."
             " Layouts are TFLite's: images [N, H, W, C], weights of CONV_2D [O, H, W, I], of"
             " DEPTHWISE_CONV_2D [1, H, W, O].\n\n"]  # fmt: skip
    for kind in (ir.Graph, ir.Value, ir.TensorType, ir.Quantization, ir.Op, ir.Padding):
        parts.append(f"### {kind.__name__}\n\n{inspect.getdoc(kind)}\n\n")
        names = [text for text in _attributes(kind) if "ClassVar" not in text]
        parts += [text.replace("### ", "#### ", 1) for text in names]
    rows = [
        (f"`ops.{kind.__name__}`", f"`{kind.tflite_name}`", _fields(kind)) for kind in ops.CLASSES
    ]
    values = ", ".join(f"`{a.value}`" for a in ir.Activation)
    return (
        "".join(parts)
        + f"""## Fields of operations

Every operation also has `location` (the user's name for it) and `index` (its number in the file);
`operands` and `results` are all its values in order.

An operation with the field `clamp` ends with a clamp of the stored numbers, (smallest, largest);
None stands for the whole range of the element type. It also has `activation`, which is what the
model file said: one of {values}. Of an 8-bit or 16-bit result, a pass turns an activation
that is a clamp into `clamp`, and sets `activation` to `none`, before a driver is asked. A driver
must compute `clamp`, and must refuse an `activation` other than `none`: those of float results and
those that are no clamp (`tanh`, `sign_bit`) stay.

{table(("class", "TFLite's name", "fields"), rows)}
"""
    )


def _fields(kind: type[Op]) -> str:
    skipped = ("location", "index")
    texts = []
    for field in dataclasses.fields(kind):
        if field.name not in skipped:
            plain = str(field.type).replace(" | ", " or ")
            default = field.default
            known = default is not dataclasses.MISSING
            value = getattr(default, "value", default)
            texts.append(f"`{field.name}`: {plain}" + (f" = {value}" if known else ""))
    return "; ".join(texts)


def _attributes(kind: type) -> list[str]:
    """Return the attributes that a class declares: name, type, default, and the text below it."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = []
    for node, below in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            lines = inspect.getsource(kind).splitlines()
            _, mark, comment = lines[(node.end_lineno or 1) - 1].partition("  # ")
            text = f"{comment}\n\n" if mark else ""
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


def onnx_page() -> str:
    """Return the page about ONNX: written by hand but for its table of operators."""
    from teflon.frontend.onnx.operators import ROWS

    head, start, rest = (ROOT / "docs" / "onnx.md").read_text().partition("<!-- operators -->\n")
    _, end, tail = rest.partition("<!-- end -->")
    rows = ["| ONNX | domain | becomes | form |", "| --- | --- | --- | --- |"]
    for row in sorted(ROWS, key=lambda r: (r.domain, r.kind)):
        made = ", ".join(dict.fromkeys(c.tflite_name or c.mnemonic.upper() for c in row.classes))
        cells = (row.kind, row.domain or "ai.onnx", made or "nothing", row.note)
        rows.append(f"| {' | '.join(cells)} |")
    return head + start + "\n".join(rows) + "\n" + end + tail


def pages() -> dict[Path, str]:
    """Return the text of every generated page."""
    docs = ROOT / "docs"
    return {
        docs / "debug.md": debug_page(),
        docs / "supported-ops.md": operations_page(),
        docs / "models.md": models_page(),
        docs / "plugins.md": plugins_page(),
        docs / "onnx.md": onnx_page(),
    }


def main() -> int:
    """Write all pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
