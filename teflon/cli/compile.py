"""`teflon compile` writes a compiled model; `teflon dump` prints each stage of compiling."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from teflon.cli.check import summary
from teflon.cli.common import add_device, check_target, table, write_whole
from teflon.cli.planning import plan_of
from teflon.cli.record import show
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
        help="also write the weights of the NPU's operations, for `teflon compare`",
    )
    parser.set_defaults(run=compile_)
    parser = commands.add_parser("dump", help="show a model at each stage, down to the commands")
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
    parser.add_argument("--data", action="store_true", help="show all numbers of constants")
    parser.set_defaults(run=dump)


def compile_(options: argparse.Namespace) -> int:
    """Write a file with everything that is needed to run the model without the original file."""
    check_target(options.output)
    model = plan_of(options)
    if model.file:
        raise OptionError(f"{options.model}: is compiled already, must be a model")
    artefact = model.compile()
    final, programs = artefact.plan, artefact.on_device()
    if not programs:
        raise TeflonError(
            f"{options.model}: no operation can run on {final.device_name(0)},"
            f" there is nothing to compile (teflon check {options.model} shows why)"
        )
    data = pack(artefact, options.whole)
    write_whole(options.output, data)
    print(programs_table(programs))
    for line in (*summary(final), *artefact.doubts()):
        print(line)
    print(f"{options.output}: {len(data)} bytes")
    return 0


def programs_table(programs: list[tuple[int, Program]]) -> str:
    """Return the statistics of programs as a table with a line for each partition."""
    names = list(dict.fromkeys(name for _, p in programs for name in p.statistics))
    rows = [(index, *(p.statistics.get(n, 0) for n in names)) for index, p in programs]
    return table(rows, ("partition", *(name.replace("_", " ") for name in names)))


def dump(options: argparse.Namespace) -> int:
    """Print a model stage by stage, a compiled file, or a recording."""
    if Path(options.model).suffix.lower() == ".npz":
        return show(Path(options.model), whole=True)
    return _stages(options)


def _stages(options: argparse.Namespace) -> int:
    """Print the stages of --stage, each after a line with its name."""
    wanted = options.stage or STAGES
    changes: list[tuple[str, Graph]] = []
    model = plan_of(options, observer=lambda name, graph: changes.append((name, graph)))
    if options.data and model.file and not model.file.whole:
        model.file.graph()  # raises: the file lacks the constants
    if "read" in wanted:
        _show("as read", to_text(model.graph, data=options.data))
    if "passes" in wanted:
        for name, graph in changes:
            _show(f"after {name}", to_text(graph, data=options.data))
        if not changes:
            _show("no pass changed the graph", "")
    if "partitions" in wanted:
        for part in model.plan.partitions:
            where = model.plan.device_name(part.device)
            _show(f"partition {part.index} on {where}", to_text(part.graph, data=options.data))
    if "programs" in wanted:
        artefact = model.compile()
        for index, program in artefact.on_device():
            title = f"program of partition {index} on {artefact.plan.device_name(0)}"
            _show(title, model.device.describe(program))
    return 0


def _show(title: str, text: str) -> None:
    sys.stdout.write(f"# {title}\n{text.rstrip()}".rstrip() + "\n\n")
