"""`teflon check`: shows where each operation of a model would run, and why not on the NPU."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

from teflon.cli.common import add_device, brief, paint, table
from teflon.cli.planning import plan_of
from teflon.compile.partition import (
    NOWHERE,
    Placement,
    Plan,
    plan_doubts,
    plan_notes,
    refuse_unplaced,
)
from teflon.inspect.precision import precision_of
from teflon.inspect.report import Report


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("check", help="show where each operation would run, and why")
    parser.add_argument("model", metavar="MODEL", help="a .tflite file, or a name of models list")
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--witnessed-only",
        action="store_true",
        help="take only what a board has run: as --option witnessed=only (driver rocket)",
    )
    parser.set_defaults(run=check)


def check(options: argparse.Namespace) -> int:
    """Print the plan. Raises UnsupportedOperation after that if it cannot run."""
    if options.witnessed_only:
        options.option = [*options.option, "witnessed=only"]
    model = plan_of(options)
    plan, doubts = model.plan, plan_doubts(model.plan, model.device)
    notes = plan_notes(plan, model.device)
    precision = precision_of(model.graph)
    advice = precision.advice(options.model)
    if options.json:
        found = {**Report(plan).as_dict(), "doubts": doubts, "notes": notes}
        found |= {"advice": advice, "precision": dict(precision.macs)}
        print(json.dumps(found, indent=2), flush=True)
        refuse_unplaced(plan)
        return 0
    if advice:
        print(paint(advice, "bold"))
    rows = [
        (
            number,
            placement.op.kind_name,
            brief(placement.op.where),
            _where(plan, placement),
            _why(placement),
        )
        for number, placement in enumerate(plan.placements[op] for op in plan.listed)
    ]
    print(table(rows, ("", "operation", "name", "runs on", "because")))
    print()
    for line in (*summary(plan), *notes, *doubts):
        print(line, flush=True)
    refuse_unplaced(plan)
    return 0


def _where(plan: Plan, placement: Placement) -> str:
    name = plan.device_name(placement.device)
    if placement.device == NOWHERE:
        return paint(name, "bad")
    return paint(name, "good") if placement.device == 0 else name


def _why(placement: Placement) -> str:
    return "; ".join(reason for _, reason in placement.reasons)


def summary(plan: Plan) -> list[str]:
    """Return the totals of each device, and the operations that passes removed, as lines."""
    totals = Report(plan).totals()
    ops, macs = sum(totals["operations"].values()), sum(totals["macs"].values())
    lines = []
    for name, count in totals["operations"].items():
        mine, parts = totals["macs"][name], totals["partitions"][name]
        share = f" ({mine / macs:.1%})" if macs else ""
        lines.append(
            f"{name}: {count} of {ops} operations, {mine:,} of {macs:,} MACs{share},"
            f" {parts} partition{'s' if parts != 1 else ''}"
        )
    if plan.folded:
        kinds = Counter(op.kind_name for op in plan.folded)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        lines.append(f"folded into their neighbours or into constants: {listed}")
    return lines
