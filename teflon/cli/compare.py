"""`teflon compare`: finds the layer whose numbers differ from the reference."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from teflon.cli.common import add_device, brief, driver_options, paint, table
from teflon.cli.planning import read_model
from teflon.cli.run import add_inputs, input_types, read_inputs
from teflon.inspect.compare import Comparison, Layer, compare


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compare", help="compare each layer's numbers on the NPU with the reference"
    )
    parser.add_argument("model", metavar="MODEL", help="a .tflite file, or a name of models list")
    add_device(parser)
    add_inputs(parser)
    parser.add_argument(
        "--within",
        type=int,
        default=1,
        metavar="N",
        help="fail if a layer differs by more steps on equal input; default: 1",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a row for each layer; return 1 if one differs by more than --within steps."""
    graph = read_model(options)
    inputs = list(read_inputs(options, input_types(graph)).values())
    found = compare(graph, inputs, options.device, **driver_options(options.option))
    if options.json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        _print(found, options.within)
    return 0 if found.worst <= options.within else 1


def _print(found: Comparison, within: int) -> None:
    if not found.layers:
        print(f"{found.device}: there is nothing to compare, all operations ran on the reference")
        return
    rows = [_row(number, layer, within) for number, layer in enumerate(found.layers)]
    print(table(rows, ("", "steps", "differ", "drift", "layer")))
    print(
        f"\n{found.device}: {len(found.layers)} layers, {found.exact} equal to the reference,"
        f" largest difference {found.worst} step{'s' if found.worst != 1 else ''} on equal input"
    )
    for note in found.notes:
        print(note)


def _row(number: int, layer: Layer, within: int) -> tuple[object, ...]:
    steps = paint(str(layer.steps), "good" if layer.steps <= within else "bad")
    return number, steps, f"{layer.share:.2%}", layer.drift, " + ".join(map(_title, layer.ops))


def _title(title: str) -> str:
    kind, _, name = title.partition(" ")
    return f"{kind} {brief(name.strip(chr(39)))!r}"
