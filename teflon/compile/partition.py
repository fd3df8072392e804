"""Partitioning: which device runs which operations, and why.

The partitions are as large as possible, and they come in an order in which they can run. The method
is that of TFLite's delegates: walk over the operations in order and collect those that are ready
and belong to the same device; when there are no more, begin the next partition. So two partitions
never wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from teflon import debug
from teflon.compile.chain import DEFAULT, Host
from teflon.errors import EncodingError, UnsupportedOperation
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.listing import Listing
from teflon.pipe import Device

NOWHERE = -1


@dataclass(frozen=True, eq=False)
class Placement:
    """Where one operation runs: the numbers of its device and its partition.

    `device` is NOWHERE if no device can run the operation. `reasons` are pairs (name of a device,
    why it does not run the operation) for all devices that come before the chosen one.
    """

    op: Op
    device: int
    partition: int
    reasons: tuple[tuple[str, str], ...] = ()


_MOST_NAMES = 3
"""Operations that a sentence of `plan_doubts` names."""


def plan_doubts(plan: Plan, device: Device) -> list[str]:
    """Return a sentence for each thing that the first device is known to compute wrong."""
    names: dict[str, list[str]] = {}
    for op, placement in plan.placements.items():
        if placement.device != 0:
            continue
        for doubt in device.doubts(op, plan.partitions[placement.partition].graph):
            names.setdefault(doubt, []).append(op.where)
    return [
        f"{device_title(device)}: {_name_list(where)} may come out wrong: {doubt}"
        for doubt, where in names.items()
    ]


def plan_notes(plan: Plan, device: Device) -> list[str]:
    """Return what the first device says about how it computes its partitions."""
    parts = [part for part in plan.partitions if part.device == 0]
    return [
        f"partition {part.index}: {note}" for part in parts for note in device.notes(part.graph)
    ]


def _name_list(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_MOST_NAMES]))
    return shown + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")


@dataclass(frozen=True, eq=False)
class Partition:
    """Operations that one device runs without interruption.

    `device` is NOWHERE if no device can run them.
    """

    index: int
    device: int
    graph: Graph


@dataclass(frozen=True, eq=False)
class Plan:
    """A graph that is cut into partitions, in an order in which they can run."""

    graph: Graph
    devices: tuple[str, ...]  # their names in messages
    partitions: tuple[Partition, ...]
    placements: Mapping[Op, Placement]
    folded: tuple[Op, ...] = ()
    """Operations of the model that passes removed: the compiler computed them, or a neighbouring
    operation does their work.
    """
    chain: tuple[Device, ...] = ()
    """The devices themselves; () for a plan of a file that was opened without them."""
    host: Host = DEFAULT
    listing: Listing | None = None
    """The model with the numbers of its file, for `teflon.inspect.verbose`."""

    @cached_property
    def listed(self) -> tuple[Op, ...]:
        """The operations in the order of the model's file, for people; passes may have another.

        One that a pass made comes behind the one before it.
        """
        places, last = {}, -1
        for op in self.graph.ops:
            last = op.index if op.index >= 0 else last
            places[op] = last
        return tuple(sorted(self.graph.ops, key=places.__getitem__))

    @cached_property
    def unplaced(self) -> tuple[Placement, ...]:
        """Operations that no device can run."""
        return tuple(p for p in self.placements.values() if p.device == NOWHERE)

    def device_name(self, number: int) -> str:
        return "nowhere" if number == NOWHERE else self.devices[number]


@dataclass(frozen=True)
class Refusals:
    """The reasons why devices do not run operations."""

    names: tuple[str, ...]
    by_op: Mapping[Op, tuple[tuple[str, ...], ...]]
    """Operation -> for each device its reasons; an empty tuple: the device can run it."""

    def device(self, op: Op) -> int:
        """Return the number of the first device that can run an operation, else NOWHERE."""
        return next((n for n, reasons in enumerate(self.by_op[op]) if not reasons), NOWHERE)

    def reasons(self, op: Op) -> tuple[tuple[str, str], ...]:
        """Return pairs (name, reason) of all devices before the one that runs an operation."""
        chosen = self.device(op)
        count = len(self.names) if chosen == NOWHERE else chosen
        pairs = list(zip(self.names, self.by_op[op], strict=True))[:count]
        return tuple((name, reason) for name, reasons in pairs for reason in reasons)

    def with_vetoes(self, device: int, vetoes: Mapping[Op, str]) -> Refusals:
        """Return these refusals and further ones of one device."""
        by_op = dict(self.by_op)
        for op, reason in vetoes.items():
            rows = list(by_op[op])
            rows[device] = (*rows[device], reason)
            by_op[op] = tuple(rows)
        return Refusals(self.names, by_op)


def device_title(device: Device) -> str:
    """Return a device's name in messages: `rocket rk3588`, `cpu`."""
    return device.driver if device.driver == device.chip else f"{device.driver} {device.chip}"


def partition(
    graph: Graph,
    devices: Sequence[Device],
    refused: Sequence[tuple[int, Mapping[Op, str]]] = (),
) -> Plan:
    """Return the plan that gives each operation to the first device that can run it.

    A device may veto operations of a whole partition, or want to leave them to the next device.
    Then they go to that one and the graph is cut again, until no device does so. Operations that no
    device can run are in partitions of their own. `refused` holds pairs (number of a device,
    operations that it must not get, with the reason).
    """
    names = tuple(device_title(d) for d in devices)
    by_op = {op: tuple(tuple(d.unsupported(op, graph)) for d in devices) for op in graph.ops}
    refusals = Refusals(names, by_op)
    for number, reasons in refused:
        refusals = refusals.with_vetoes(number, reasons)
    while True:
        partitions = _cut(graph, refusals)
        device, vetoes = _vetoes(graph, partitions, devices)
        if not vetoes:
            break
        refusals = refusals.with_vetoes(device, vetoes)
    placements = {
        op: Placement(op, part.device, part.index, refusals.reasons(op))
        for part in partitions
        for op in part.graph.ops
    }
    ordered = {op: placements[op] for op in graph.ops}
    plan = Plan(graph, names, partitions, ordered, chain=tuple(devices))
    if debug.enabled("partition"):
        _show(plan)
    return plan


def failing_operations(device: Device, graph: Graph, error: EncodingError) -> Mapping[Op, str]:
    """Return the operations that prevent a device from compiling a partition, with the reasons.

    These are the operations that the device cannot compile alone. If it can compile each one alone,
    it is the last operation of the shortest sequence from the partition's beginning that it cannot
    compile. `error` is the error for the whole partition.
    """
    alone = {op: _compile_error(device, graph, (op,)) for op in graph.ops}
    if found := {op: failure.reason for op, failure in alone.items() if failure}:
        return found
    good, bad = 0, len(graph.ops)
    while bad - good > 1:
        middle = (good + bad) // 2
        if failure := _compile_error(device, graph, graph.ops[:middle]):
            bad, error = middle, failure
        else:
            good = middle
    return {graph.ops[bad - 1]: error.reason}


def _compile_error(device: Device, graph: Graph, ops: Sequence[Op]) -> EncodingError | None:
    try:
        device.compile(graph.subgraph(ops))
    except EncodingError as error:
        return error
    except UnsupportedOperation:  # an operation lacks its neighbour here: this tells nothing
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
    """Return the device of the first ready operation, the operations that it can run one after the
    other, and those that are left.
    """
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
    graph: Graph, partitions: Sequence[Partition], devices: Sequence[Device]
) -> tuple[int, Mapping[Op, str]]:
    """Return a device and the operations that it does not run in one of the partitions: those that
    it vetoes, or where nothing is vetoed, those that it leaves to the next device.
    """
    ours = [part for part in partitions if part.device != NOWHERE]
    asked: Sequence[Callable[[Partition], Mapping[Op, str]]] = (
        lambda part: devices[part.device].veto(part.graph),
        lambda part: devices[part.device].leave(part.graph, graph),
    )
    for ask in asked:
        for part in ours:
            inside = set(part.graph.ops)
            found = {op: reason for op, reason in ask(part).items() if op in inside}
            if found:
                return part.device, found
    return NOWHERE, {}


def refuse_unplaced(plan: Plan) -> None:
    """Raise UnsupportedOperation for the first operation that no device can run."""
    if not plan.unplaced:
        return
    first, *others = plan.unplaced
    reasons = [f"{device}: {reason}" for device, reason in first.reasons]
    if others:
        kinds = ", ".join(dict.fromkeys(p.op.kind_name for p in others))
        reasons.append(f"and {len(others)} more operations run nowhere ({kinds})")
    raise UnsupportedOperation(first.op.title, reasons)


def _show(plan: Plan) -> None:
    for placement in plan.placements.values():
        why = "; ".join(f"{device}: {reason}" for device, reason in placement.reasons)
        where = plan.device_name(placement.device)
        debug.log(f"{placement.op.title} -> {where} ({placement.partition}){why and ': ' + why}")
