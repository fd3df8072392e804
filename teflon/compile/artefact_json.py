"""Artefacts as JSON, for entries of the compile cache and for `.teflon` files.

The JSON holds references instead of constants and programs. The writer chooses the references, and
the reader finds constants and programs by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from teflon.compile.artefact import Artefact
from teflon.compile.chain import Host, chain_again
from teflon.compile.partition import Partition, Placement, Plan
from teflon.compile.programs import other_ends
from teflon.devices import CPU
from teflon.ir import serial
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Opaque
from teflon.ir.types import Array, TensorType
from teflon.pipe import Device, Program

BROKEN = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""The errors that `from_json` raises for JSON that `to_json` did not write."""


def to_json(
    artefact: Artefact,
    place: Callable[[Value], object],
    keep: Callable[[Partition, Program], object],
) -> dict[str, Any]:
    """Return an artefact as JSON.

    `place` returns the reference of a constant (see `serial.encode`), `keep` that of a program.
    Programs of the CPU driver are left out: they are their graphs.
    """
    pairs = zip(artefact.plan.partitions, artefact.programs, strict=True)
    return {
        "plan": _plan_to_json(artefact.plan, place),
        "programs": [None if p.driver == CPU else keep(part, p) for part, p in pairs],
    }


def from_json(
    plain: Mapping[str, Any],
    device: Device,
    host: Host,
    fetch: Callable[[Any, TensorType], Array],
    program: Callable[[Any, Device], Program],
) -> Artefact:
    """Return the artefact that `to_json` wrote, for the same device.

    `fetch` returns the constant of a reference, `program` the program of a reference and its
    device. Raises one of BROKEN if the JSON is not what `to_json` writes, VerifyError,
    DriverUnavailable, and what `fetch` and `program` raise.
    """
    plan = plan_from_json(plain, fetch)
    plan = replace(plan, chain=chain_again(device, plan.devices, host), host=host)
    programs = tuple(
        _program(part, reference, plan.chain, program)
        for part, reference in zip(plan.partitions, plain["programs"], strict=True)
    )
    return Artefact(plan, programs)


def _program(
    part: Partition,
    reference: Any,
    devices: Sequence[Device],
    program: Callable[[Any, Device], Program],
) -> Program:
    device = devices[part.device]
    if reference is None and device.driver == CPU:
        return device.compile(part.graph)
    found = program(reference, device)
    if what := other_ends(found, part.graph):
        raise ValueError(f"program {part.index} has other {what} than its graph")
    return found


def _plan_to_json(plan: Plan, place: Callable[[Value], object]) -> dict[str, Any]:
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
        "folded": [[op.kind_name, op.where, op.index] for op in plan.folded],
    }


def plan_from_json(plain: Mapping[str, Any], fetch: Callable[[Any, TensorType], Array]) -> Plan:
    """Return the verified plan of an artefact's JSON. Raises what `from_json` raises.

    Folded operations become `Opaque` ones with their name and kind.
    """
    parts = plain["plan"]
    graph = serial.decode(parts["graph"], fetch)
    graph.verify()
    devices = tuple(str(name) for name in parts["devices"])
    partitions = tuple(
        _partition(graph, index, row, len(devices)) for index, row in enumerate(parts["partitions"])
    )
    placements = {
        op: Placement(op, part.device, part.index) for part in partitions for op in part.graph.ops
    }
    if len(placements) != len(graph.ops) or sum(len(p.graph.ops) for p in partitions) != len(
        placements
    ):
        raise ValueError("partitions do not hold every operation once")
    for number, reasons in parts["reasons"].items():
        op = graph.ops[int(number)]
        pairs = tuple((str(device), str(reason)) for device, reason in reasons)
        placements[op] = Placement(op, placements[op].device, placements[op].partition, pairs)
    ordered = {op: placements[op] for op in graph.ops}
    return Plan(graph, devices, partitions, ordered, tuple(map(_folded_op, parts["folded"])))


def _partition(graph: Graph, index: int, row: Any, devices: int) -> Partition:
    device, name, numbers = row
    if not isinstance(device, int) or not 0 <= device < devices:
        raise ValueError(f"partition {index} is of device {device}, there are {devices}")
    return Partition(index, device, graph.subgraph([graph.ops[n] for n in numbers], str(name)))


def _folded_op(row: Any) -> Op:
    kind, where, index = row
    return Opaque(
        inputs=(), outputs=(), kind=str(kind), location=str(where), index=int(index),
        reason="was folded when the model was compiled",
    )  # fmt: skip
