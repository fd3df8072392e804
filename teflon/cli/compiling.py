"""`teflon compile` and `teflon dump`: programs as files, and every stage as text."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from teflon.cli.check import summary
from teflon.cli.common import add_device, check_target, table, write_whole
from teflon.cli.planning import plan
from teflon.errors import DriverUnavailable, ProgramError, TeflonError
from teflon.ir.graph import Graph
from teflon.ir.text import to_text
from teflon.partition import Plan
from teflon.pipe import Device, Program
from teflon.plugins import discover

STAGES = ("read", "passes", "partitions", "programs")


def register(commands: Any) -> None:
    """Add both commands."""
    parser = commands.add_parser("compile", help="compile for a chip; no device is needed")
    parser.add_argument("model", metavar="MODEL")
    add_device(parser)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE")
    parser.set_defaults(run=compile_)
    parser = commands.add_parser("dump", help="show a model at every stage down to the commands")
    parser.add_argument("model", metavar="MODEL", help="a model, or a file that compile wrote")
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
    """Write a zip of the programs of all partitions, and a manifest that says what is what."""
    check_target(options.output)
    planned = plan(options)
    final, programs = planned.compile()
    if not programs:
        raise TeflonError(
            f"{options.model}: no operation runs on {final.device_name(0)},"
            f" there is nothing to compile (teflon check {options.model} says why)"
        )
    write_whole(options.output, _zip(planned.devices[0], final, programs))
    print(programs_table(programs))
    for line in summary(final):
        print(line)
    print(f"{options.output}: {options.output.stat().st_size} bytes")
    return 0


def programs_table(programs: list[tuple[int, Program]]) -> str:
    """Return the statistics of programs, one line for each partition."""
    names = list(dict.fromkeys(name for _, p in programs for name in p.statistics))
    rows = [(index, *(p.statistics.get(n, 0) for n in names)) for index, p in programs]
    return table(rows, ("partition", *(name.replace("_", " ") for name in names)))


def _zip(device: Device, plan: Plan, programs: list[tuple[int, Program]]) -> bytes:
    contents = {f"partition-{index}.bin": program.to_bytes() for index, program in programs}
    manifest = {
        "format": 1,
        "model": plan.graph.name,
        "driver": device.driver,
        "chip": device.chip,
        "partitions": [
            {
                "file": f"partition-{index}.bin",
                "sha256": hashlib.sha256(contents[f"partition-{index}.bin"]).hexdigest(),
                "operations": [op.where for op in plan.partitions[index].graph.ops],
                "statistics": dict(program.statistics),
            }
            for index, program in programs
        ],
    }
    contents["manifest.json"] = json.dumps(manifest, indent=2).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():  # a fixed date: the same model makes the same file
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()


def _dump_file(path: Path) -> int:
    """Print what `compile` wrote: the manifest, then every program."""
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        driver = discover().drivers.get(manifest["driver"])
        if driver is None:
            raise DriverUnavailable(
                f"{path}: is made by driver {manifest['driver']!r}, which must be installed"
            )
        device = driver.device(manifest["chip"])
        _show("manifest", json.dumps(manifest, indent=2))
        for part in manifest["partitions"]:
            program = device.load(archive.read(part["file"]))
            _show(f"program {part['file']}", device.describe(program))
    return 0


def _guarded_dump(path: Path) -> int:
    try:
        return _dump_file(path)
    except (KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ProgramError(f"{path}: is damaged, {error} (compile the model again)") from error


def _is_compiled(path: Path) -> bool:
    """Whether a file is one of `compile`. Raises ProgramError for another zip."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if "manifest.json" in archive.namelist():
            return True
    raise ProgramError(f"{path}: is a zip without manifest.json, must be what compile wrote")


def dump(options: argparse.Namespace) -> int:
    """Print the wanted stages, each under a line that names it; or a compiled file."""
    if _is_compiled(Path(options.model)):
        return _guarded_dump(Path(options.model))
    wanted = options.stage or STAGES
    passed: list[tuple[str, Graph]] = []
    planned = plan(options, observer=lambda name, graph: passed.append((name, graph)))
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
        final, programs = planned.compile()
        for index, program in programs:
            title = f"program of partition {index} on {final.device_name(0)}"
            _show(title, planned.devices[0].describe(program))
    return 0


def _show(title: str, text: str) -> None:
    sys.stdout.write(f"# {title}\n{text.rstrip()}".rstrip() + "\n\n")
