"""Which device runs what, and why: maximal partitions in an order that can be executed.

The clustering is that of TFLite's delegates: walk the operations in order and gather all that are
ready and belong to the same device; when none is left, begin the next partition. No partition can
then wait for one that waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from teflon import debug
from teflon.errors import EncodingError, UnsupportedOperation
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.listing import Listing
from teflon.pipe import Device

NOWHERE = -1


@dataclass(frozen=True, eq=False)
class Placement:
    """Where one operation runs: number of device and partition, and why not on others.

    `device` is NOWHERE where no device can run it; `reasons` are pairs (device, reason) for every
    device that was preferred and refused.
    """

    op: Op
    device: int
    partition: int
    reasons: tuple[tuple[str, str], ...] = ()


_SHOWN = 3
"""Operations that a doubt names."""


def doubted(plan: Plan, device: Device) -> list[str]:
    """Return a sentence for each thing that is known to come out wrong on the first device."""
    names: dict[str, list[str]] = {}
    for op, placement in plan.placements.items():
        for doubt in device.doubts(op, plan.graph) if placement.device == 0 else ():
            names.setdefault(doubt, []).append(op.where)
    return [
        f"{device_title(device)}: {_listed(where)} may come out wrong: {doubt}"
        for doubt, where in names.items()
    ]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


@dataclass(frozen=True, eq=False)
class Partition:
    """Operations that one device runs at a stretch; `device` is NOWHERE where none can."""

    index: int
    device: int
    graph: Graph


@dataclass(frozen=True, eq=False)
class Plan:
    """A graph cut into partitions, in an order in which they can be executed."""

    graph: Graph
    devices: tuple[str, ...]  # how messages name them
    partitions: tuple[Partition, ...]
    placements: Mapping[Op, Placement]
    folded: tuple[Op, ...] = ()
    """Operations of the model that passes took away: computed once, or done by a neighbour."""
    listing: Listing | None = None
    """The model as its file numbers it, where somebody wants to print it."""

    @cached_property
    def unplaced(self) -> tuple[Placement, ...]:
        """Operations that no device can run."""
        return tuple(p for p in self.placements.values() if p.device == NOWHERE)

    def device_name(self, number: int) -> str:
        return "nowhere" if number == NOWHERE else self.devices[number]


@dataclass(frozen=True)
class Refusals:
    """What each device said to each operation; grows by vetoes."""

    names: tuple[str, ...]
    said: Mapping[Op, tuple[tuple[str, ...], ...]]  # one tuple of reasons for each device

    def device(self, op: Op) -> int:
        """Return the first device that has nothing against an operation."""
        return next((n for n, reasons in enumerate(self.said[op]) if not reasons), NOWHERE)

    def reasons(self, op: Op) -> tuple[tuple[str, str], ...]:
        """Return (device, reason) of all that were preferred to the one that runs it."""
        chosen = self.device(op)
        preferred = len(self.names) if chosen == NOWHERE else chosen
        pairs = list(zip(self.names, self.said[op], strict=True))[:preferred]
        return tuple((name, reason) for name, said in pairs for reason in said)

    def refused(self, device: int, vetoes: Mapping[Op, str]) -> Refusals:
        """Return these refusals and some more of one device."""
        said = dict(self.said)
        for op, reason in vetoes.items():
            rows = list(said[op])
            rows[device] = (*rows[device], reason)
            said[op] = tuple(rows)
        return Refusals(self.names, said)


def device_title(device: Device) -> str:
    """Return how messages name a device: `rocket rk3588`, `cpu`."""
    return device.driver if device.driver == device.chip else f"{device.driver} {device.chip}"


def partition(
    graph: Graph,
    devices: Sequence[Device],
    refused: Sequence[tuple[int, Mapping[Op, str]]] = (),
) -> Plan:
    """Return the plan that gives each operation to the first device that takes it.

    A device may veto operations of a whole partition; then everything is cut anew without them,
    until no device vetoes anything. Operations that nobody takes are in partitions of their own.
    `refused` are operations, with the reason, that a device (by number) must not be given.
    """
    names = tuple(device_title(d) for d in devices)
    said = {op: tuple(tuple(d.unsupported(op, graph)) for d in devices) for op in graph.ops}
    refusals = Refusals(names, said)
    for number, reasons in refused:
        refusals = refusals.refused(number, reasons)
    while True:
        partitions = _cut(graph, refusals)
        device, vetoes = _vetoes(partitions, devices)
        if not vetoes:
            break
        refusals = refusals.refused(device, vetoes)
    placements = {
        op: Placement(op, part.device, part.index, refusals.reasons(op))
        for part in partitions
        for op in part.graph.ops
    }
    plan = Plan(graph, names, partitions, {op: placements[op] for op in graph.ops})
    if debug.enabled("partition"):
        _show(plan)
    return plan


def blamed(device: Device, graph: Graph, error: EncodingError) -> Mapping[Op, str]:
    """Return the operations, with reasons, for which a device could not compile a partition.

    Those that it cannot express alone; where it can do each one, the last of the shortest
    beginning that it cannot. `error` is what compiling the whole partition raised.
    """
    alone = {op: _refusal(device, graph, (op,)) for op in graph.ops}
    if found := {op: said.reason for op, said in alone.items() if said}:
        return found
    fine, refused = 0, len(graph.ops)
    while refused - fine > 1:
        middle = (fine + refused) // 2
        if said := _refusal(device, graph, graph.ops[:middle]):
            refused, error = middle, said
        else:
            fine = middle
    return {graph.ops[refused - 1]: error.reason}


def _refusal(device: Device, graph: Graph, ops: Sequence[Op]) -> EncodingError | None:
    try:
        device.compile(graph.subgraph(ops))
    except EncodingError as error:
        return error
    except UnsupportedOperation:  # needs a neighbour: says nothing about these
        return None
    return None


def _cut(graph: Graph, refusals: Refusals) -> tuple[Partition, ...]:
    ready: set[Value] = {v for v in graph.values if graph.producer(v) is None}
    waiting, parts = list(graph.ops), list[Partition]()
    while waiting:
        device, taken, left = _gather(waiting, ready, refusals)
        index = len(parts)
        parts.append(Partition(index, device, graph.subgraph(taken, f"{graph.name}/{index}")))
        waiting = left
    return tuple(parts)


def _gather(
    waiting: Sequence[Op], ready: set[Value], refusals: Refusals
) -> tuple[int, list[Op], list[Op]]:
    """Take all operations that can follow one another on the first ready one's device."""
    device: int | None = None
    taken: list[Op] = []
    left: list[Op] = []
    for op in waiting:
        wanted = refusals.device(op)
        if ready.issuperset(op.inputs_present) and device in (None, wanted):
            device = wanted
            taken.append(op)
            ready.update(op.results)
        else:
            left.append(op)
    assert device is not None  # operations are in topological order
    return device, taken, left


def _vetoes(
    partitions: Sequence[Partition], devices: Sequence[Device]
) -> tuple[int, Mapping[Op, str]]:
    for part in partitions:
        if part.device == NOWHERE:
            continue
        inside = set(part.graph.ops)
        said = devices[part.device].veto(part.graph)
        vetoes = {op: reason for op, reason in said.items() if op in inside}
        if vetoes:
            return part.device, vetoes
    return NOWHERE, {}


def _show(plan: Plan) -> None:
    for placement in plan.placements.values():
        why = "; ".join(f"{device}: {reason}" for device, reason in placement.reasons)
        where = plan.device_name(placement.device)
        debug.log(f"{placement.op.title} -> {where} ({placement.partition}){why and ': ' + why}")
