"""Where everything lies: in a buffer for each thing as with Mesa, or in few for a whole program.

Few: coefficients and tables (equal ones once), instructions, inputs, an arena of what lives between
operations, outputs. Inputs and outputs are not in the arena because the CPU waits for whole
buffers and synchronises them.

Ref: docs/hardware/etnaviv.md sections 2.5 and 2.6 (an operation starts when the one before it has
ended: what it reads may be written over by the next one)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from teflon_common.arena import ALIGNMENT, Arena, Lifetime, Pool, lower_bound, place, row
from teflon_common.program import Buffer
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.memory_plan import Place, plan_tensors
from teflon_etnaviv.operations import NN, TP, Lowered, Operation, Tensor
from teflon_etnaviv.tiling import align

_BURST = 0x100
"""What the cores fetch coefficients in at most, bytes. Ref: docs/hardware/etnaviv.md section 1.3"""

ROLES: Mapping[type[Operation], tuple[str, str]] = {
    NN: ("coefficients", "nn_config"),
    TP: ("lut", "tp_config"),
}
"""Roles of the buffers that hold an operation's constants and its instructions."""
_CONSTANTS = {constants for constants, _ in ROLES.values()}


@dataclass(frozen=True)
class Content:
    """What an operation brings along: instructions with addresses 0, constants.

    offsets: for each instruction, where it starts in the operation's input and output; constants:
    coefficients or a lookup table, with the bytes that Mesa asks for them.
    """

    op: NN | TP
    instructions: tuple[bytes, ...]
    offsets: tuple[tuple[int, int], ...]
    constants: bytes | None = None
    constants_room: int = 0


@dataclass(frozen=True)
class Packed:
    """Where that lies which an operation brought along."""

    op: NN | TP
    instructions: tuple[Place, ...]
    offsets: tuple[tuple[int, int], ...]
    constants: Place | None


@dataclass(frozen=True)
class Memory:
    """The buffers of a program, and where operations and tensors have their bytes.

    sizes: what planning was about, for statistics.
    """

    buffers: tuple[Buffer, ...]
    operations: tuple[Packed, ...]
    tensors: Mapping[Tensor, Place]
    sizes: Mapping[str, int] = field(default_factory=dict)


Keep = Callable[[str, bytes, str, int], Place]
"""Puts bytes of a role somewhere: (role, data, name, bytes that Mesa asks for)."""


def _kept(content: Content, keep: Keep) -> Packed:
    """Put away what an operation brings along, constants first."""
    constants_role, code_role = ROLES[type(content.op)]
    name, data = content.op.name, content.constants
    constants = None
    if data is not None:
        constants = keep(constants_role, data, name, content.constants_room)
    instructions = tuple(keep(code_role, code, name, 0) for code in content.instructions)
    return Packed(content.op, instructions, content.offsets, constants)


def apart(lowered: Lowered, contents: Iterable[Content]) -> Memory:
    """Return Mesa's memory: tensors in its order, then what each operation brings along."""
    plan = plan_tensors(lowered.operations)
    filled: dict[int, tuple[str, bytes, str]] = {}

    def keep(role: str, data: bytes, name: str, room: int) -> Place:
        buffer = plan.allocate(max(room, len(data)))
        filled[buffer] = (role, data, name)
        return Place(buffer, 0, len(data))

    operations = tuple(_kept(content, keep) for content in contents)
    names: dict[int, str] = {}
    for tensor, where in plan.places.items():
        names.setdefault(where.buffer, tensor.name)
    buffers = []
    for number, size in enumerate(plan.sizes):
        unfilled = ("tensor", None, names.get(number, "unused"))
        role, data, name = filled.get(number, unfilled)
        buffers.append(Buffer(role, size, data, name))
    return Memory(tuple(buffers), operations, plan.places)


def together(
    lowered: Lowered, contents: Iterable[Content], chip: Chip, shares: bool = True
) -> Memory:
    """Return seven buffers, or fewer where one would be empty.

    shares: tensors that live at different times may lie in the same bytes.
    """
    operations, buffers = _pooled(contents)
    homes = homes_of(lowered)
    rooms = rooms_of(lowered, homes, chip)
    inputs = list(dict.fromkeys(homes[t][0] for t in lowered.inputs))
    ends = dict.fromkeys(homes[t][0] for t in lowered.outputs)
    outputs = [t for t in ends if t not in inputs]
    between = [t for t in rooms if t not in ends and t not in inputs]
    lives = lifetimes(lowered.operations, homes, rooms)
    arena = place([lives[t] for t in between]) if shares else row([rooms[t] for t in between])
    starts: dict[Tensor, tuple[int, int]] = {}
    groups: tuple[tuple[str, list[Tensor], Arena], ...] = (
        ("inputs", inputs, row([rooms[t] for t in inputs])),
        ("arena", between, arena),
        ("outputs", outputs, row([rooms[t] for t in outputs])),
    )
    for name, group, placed in groups:
        if group:
            found = ((len(buffers), offset) for offset in placed.offsets)
            starts.update(zip(group, found, strict=True))
            buffers.append(Buffer("tensor", placed.peak, None, name))
    tensors = {}
    for tensor, (home, offset) in homes.items():
        buffer, start = starts[home]
        tensors[tensor] = Place(buffer, start + offset, tensor.size_bytes)
    return Memory(
        buffers=tuple(buffers),
        operations=operations,
        tensors=tensors,
        sizes={
            "arena_bytes": arena.peak,
            "arena_bound": lower_bound([lives[t] for t in between]),
            "tensor_bytes": sum(rooms.values()),
        },
    )


def _pooled(contents: Iterable[Content]) -> tuple[tuple[Packed, ...], list[Buffer]]:
    """Put away each content as it comes, in a buffer for each role."""
    pools: dict[str, Pool] = {}
    numbers: dict[str, int] = {}

    def keep(role: str, data: bytes, _name: str, _room: int) -> Place:
        if role not in pools:
            numbers[role] = len(pools)
            pools[role] = Pool(role, _BURST if role == "coefficients" else ALIGNMENT)
        once = role in _CONSTANTS
        return Place(numbers[role], pools[role].add(data, once=once), len(data))

    operations = tuple(_kept(content, keep) for content in contents)
    return operations, [pool.buffer for pool in pools.values()]


def homes_of(lowered: Lowered) -> dict[Tensor, tuple[Tensor, int]]:
    """Return for each tensor the outermost one that it lives in (itself), and its offset there."""
    used = [t for op in lowered.operations for t in (*op.inputs, *op.outputs)]
    homes = {}
    for tensor in dict.fromkeys((*lowered.inputs, *used, *lowered.outputs)):
        home, offset = tensor, 0
        while home in lowered.places:
            home, more = lowered.places[home]
            offset += more
        homes[tensor] = (home, offset)
    return homes


def rooms_of(
    lowered: Lowered, homes: Mapping[Tensor, tuple[Tensor, int]], chip: Chip
) -> dict[Tensor, int]:
    """Return the bytes that each home needs.

    Kernels are dealt out evenly: where there are not enough of them, some cores get one that does
    not exist. Nobody has seen that they write a plane for it, nor that they do not: there is room.
    Ref: docs/hardware/etnaviv.md sections 7.1, 12 (question 5)
    """
    rooms = {home: home.size_bytes for home, _ in homes.values()}
    for op in lowered.operations:
        if isinstance(op, NN) and op.layer is not None:
            home, offset = homes[op.outputs[0]]
            cores = min(op.layer.out_channels, chip.nn_core_count)
            planes = align(op.layer.out_channels, cores)
            rooms[home] = max(rooms[home], offset + planes * op.layer.plane_bytes)
    return rooms


def lifetimes(
    operations: Sequence[Operation],
    homes: Mapping[Tensor, tuple[Tensor, int]],
    rooms: Mapping[Tensor, int],
) -> dict[Tensor, Lifetime]:
    """Return from which to which operation each home that operations use must be kept."""
    steps: dict[Tensor, list[int]] = {}
    for number, op in enumerate(operations):
        for tensor in (*op.inputs, *op.outputs):
            steps.setdefault(homes[tensor][0], []).append(number)
    return {t: Lifetime(rooms[t], min(found), max(found)) for t, found in steps.items()}
