"""Plans as JSON: what the compile cache and compiled files keep beside the programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from teflon.compile.partition import NOWHERE, Partition, Placement, Plan
from teflon.ir import serial
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Opaque
from teflon.ir.types import Array, TensorType


def plan_to_json(plan: Plan, place: Callable[[Value], object]) -> dict[str, Any]:
    """Return a plan as JSON; `place` says where each constant lies (see `serial.encode`)."""
    order = {op: number for number, op in enumerate(plan.graph.ops)}
    return {
        "graph": serial.encode(plan.graph, place),
        "devices": plan.devices,
        "partitions": [
            [part.device, part.graph.name, [order[op] for op in part.graph.ops]]
            for part in plan.partitions
        ],
        "reasons": {
            order[op]: placement.reasons
            for op, placement in plan.placements.items()
            if placement.reasons
        },
        "folded": [[_kind(op), op.where, op.index] for op in plan.folded],
    }


def plan_from_json(plain: Mapping[str, Any], fetch: Callable[[Any, TensorType], Array]) -> Plan:
    """Return the plan that `plan_to_json` wrote.

    Folded operations come back as `Opaque` ones that know their name and kind. Raises KeyError,
    TypeError, ValueError, IndexError where it is not what `plan_to_json` writes.
    """
    graph = serial.decode(plain["graph"], fetch)
    devices = tuple(str(name) for name in plain["devices"])
    partitions = tuple(
        _partition(graph, index, row, len(devices)) for index, row in enumerate(plain["partitions"])
    )
    placements = {
        op: Placement(op, part.device, part.index) for part in partitions for op in part.graph.ops
    }
    if len(placements) != len(graph.ops) or sum(len(p.graph.ops) for p in partitions) != len(
        placements
    ):
        raise ValueError("partitions do not hold every operation once")
    for number, reasons in plain["reasons"].items():
        op = graph.ops[int(number)]
        said = tuple((str(device), str(reason)) for device, reason in reasons)
        placements[op] = Placement(op, placements[op].device, placements[op].partition, said)
    ordered = {op: placements[op] for op in graph.ops}
    return Plan(graph, devices, partitions, ordered, tuple(map(_folded, plain["folded"])))


def _partition(graph: Graph, index: int, row: Any, devices: int) -> Partition:
    device, name, numbers = row
    if not isinstance(device, int) or not NOWHERE <= device < devices:
        raise ValueError(f"partition {index} is of device {device}, there are {devices}")
    return Partition(index, device, graph.subgraph([graph.ops[n] for n in numbers], str(name)))


def _kind(op: Op) -> str:
    return op.title.removesuffix(f" {op.where!r}")


def _folded(row: Any) -> Op:
    kind, where, index = row
    return Opaque(
        inputs=(), outputs=(), kind=str(kind), location=str(where), index=int(index),
        reason="was folded when the model was compiled",
    )  # fmt: skip
