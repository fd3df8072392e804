"""`teflon compile` and `teflon dump`: programs as files, and every stage as text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from teflon.cli.check import summary
from teflon.cli.common import add_device, check_target, table, write_whole
from teflon.cli.planning import plan
from teflon.cli.recordings import show
from teflon.compile.teflon_file import pack
from teflon.errors import OptionError, TeflonError
from teflon.ir.graph import Graph
from teflon.ir.text import to_text
from teflon.pipe import Program

STAGES = ("read", "passes", "partitions", "programs")


def register(commands: Any) -> None:
    """Add both commands."""
    parser = commands.add_parser("compile", help="compile for a chip; no device is needed")
    parser.add_argument("model", metavar="MODEL")
    add_device(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE")
    parser.add_argument(
        "--whole",
        action="store_true",
        help="keep the weights of what the NPU runs beside its programs, for `teflon compare`",
    )
    parser.set_defaults(run=compile_)
    parser = commands.add_parser("dump", help="show a model at every stage down to the commands")
    parser.add_argument(
        "model", metavar="MODEL", help="a model, a file that compile wrote, or a recording"
    )
    add_device(parser)
    parser.add_argument(
        "--stage",
        action="append",
        choices=STAGES,
        help="what to show, may be repeated (default: all)",
    )
    parser.add_argument("--data", action="store_true", help="show all constants whole")
    parser.set_defaults(run=dump)


def compile_(options: argparse.Namespace) -> int:
    """Write one file with all programs and the rest of the graph, which runs without the model."""
    check_target(options.output)
    planned = plan(options)
    if planned.file:
        raise OptionError(f"{options.model}: is compiled already, must be a model")
    artefact = planned.compile()
    final, programs = artefact.plan, artefact.on_device()
    if not programs:
        raise TeflonError(
            f"{options.model}: no operation runs on {final.device_name(0)},"
            f" there is nothing to compile (teflon check {options.model} says why)"
        )
    data = pack(artefact, options.whole)
    write_whole(options.output, data)
    print(programs_table(programs))
    for line in (*summary(final), *artefact.doubts()):
        print(line)
    print(f"{options.output}: {len(data)} bytes")
    return 0


def programs_table(programs: list[tuple[int, Program]]) -> str:
    """Return the statistics of programs, one line for each partition."""
    names = list(dict.fromkeys(name for _, p in programs for name in p.statistics))
    rows = [(index, *(p.statistics.get(n, 0) for n in names)) for index, p in programs]
    return table(rows, ("partition", *(name.replace("_", " ") for name in names)))


def dump(options: argparse.Namespace) -> int:
    """Print a model stage by stage, a compiled file, or a recording."""
    if Path(options.model).suffix.lower() == ".npz":
        return show(Path(options.model), whole=True)
    return _stages(options)


def _stages(options: argparse.Namespace) -> int:
    """Print the wanted stages, each under a line that names it."""
    wanted = options.stage or STAGES
    passed: list[tuple[str, Graph]] = []
    planned = plan(options, observer=lambda name, graph: passed.append((name, graph)))
    if options.data and planned.file and not planned.file.whole:
        planned.file.graph()  # says that they are not there
    if "read" in wanted:
        _show("as read", to_text(planned.read, data=options.data))
    if "passes" in wanted:
        for name, graph in passed:
            _show(f"after {name}", to_text(graph, data=options.data))
        if not passed:
            _show("no pass changed the graph", "")
    if "partitions" in wanted:
        for part in planned.plan.partitions:
            where = planned.plan.device_name(part.device)
            _show(f"partition {part.index} on {where}", to_text(part.graph, data=options.data))
    if "programs" in wanted:
        artefact = planned.compile()
        for index, program in artefact.on_device():
            title = f"program of partition {index} on {artefact.plan.device_name(0)}"
            _show(title, planned.devices[0].describe(program))
    return 0


def _show(title: str, text: str) -> None:
    sys.stdout.write(f"# {title}\n{text.rstrip()}".rstrip() + "\n\n")
