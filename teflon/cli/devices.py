"""`teflon devices` lists drivers and NPUs; `teflon delegate-path` prints the delegate's path."""

from __future__ import annotations

import argparse
import json
from typing import Any

from teflon import plugins
from teflon.cli.common import paint
from teflon.devices import SIMULATED, has_simulator, is_npu, probe
from teflon.frontend.delegate import library as delegate
from teflon.pipe import Driver, Node


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "devices", help="list drivers and the NPUs of this machine, with the cure for failures"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--root", default="/", metavar="FOLDER", help=argparse.SUPPRESS)
    parser.set_defaults(run=devices)
    parser = commands.add_parser(
        "delegate-path", help="print the path of libteflon.so, the TFLite external delegate"
    )
    parser.set_defaults(run=delegate_path)


def delegate_path(options: argparse.Namespace) -> int:
    """Print the library's path, for scripts."""
    print(delegate.path())
    return 0


def devices(options: argparse.Namespace) -> int:
    """List drivers, nodes and broken plugins."""
    registry, formats = plugins.discover(), plugins.formats()
    found = [(driver, probe(driver, options.root)) for driver in registry.drivers.values()]
    frontends = {f"frontend {name}": why for name, why in formats.broken.items()}
    broken = {**registry.broken, **frontends}
    if options.json:
        print(json.dumps(_as_json(found, broken), indent=2))
        return 0
    for driver, nodes in found:
        _show(driver, nodes)
    for name, reason in broken.items():
        print(f"{paint(name, 'bold')}: {paint('broken plugin', 'bad')}")
        print(f"  {reason}")
    return 0


def _show(driver: Driver, nodes: list[Node]) -> None:
    print(f"{paint(driver.name, 'bold')}: {driver.summary}")
    if driver.chips and is_npu(driver):
        print(f"  compiles for {', '.join(driver.chips)}")
    if has_simulator(driver):
        print(f"  simulates {', '.join(SIMULATED + chip for chip in driver.chips)}")
    if not nodes:
        print("  no device of this kind on this machine, neither a node nor a device tree entry")
    for node in nodes:
        where = node.path or "no node"
        if node.usable:
            print(f"  {where}: {paint('ready', 'good')}{f', {node.chip}' if node.chip else ''}")
            continue
        print(f"  {where}: {paint(node.problem, 'bad')}")
        if node.cure:
            print(f"    {node.cure}")


def _as_json(found: list[tuple[Driver, list[Node]]], broken: dict[str, str]) -> dict[str, Any]:
    return {
        "drivers": [
            {
                "name": driver.name,
                "summary": driver.summary,
                "chips": list(driver.chips),
                "options": {
                    name: {"help": o.help, "choices": list(o.choices), "default": o.default}
                    for name, o in driver.options.items()
                },
                "nodes": [
                    {
                        "path": node.path,
                        "chip": node.chip,
                        "usable": node.usable,
                        "problem": node.problem,
                        "cure": node.cure,
                    }
                    for node in nodes
                ],
            }
            for driver, nodes in found
        ],
        "broken": broken,
    }
