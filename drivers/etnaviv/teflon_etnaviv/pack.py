"""Where everything lies: in a buffer for each thing as with Mesa, or in few for a whole program.

Few: coefficients and tables (equal ones once), instructions, inputs, an arena of what lives between
operations, outputs. Inputs and outputs are not in the arena because the CPU waits for whole
buffers and synchronises them.

Ref: docs/hardware/etnaviv.md sections 2.5 and 2.6 (an operation starts when the one before it has
ended: what it reads may be written over by the next one)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from teflon_common.arena import Arena, Lifetime, Pool, lower_bound, place, row
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

    @property
    def roles(self) -> tuple[str, str]:
        return ROLES[type(self.op)]


@dataclass(frozen=True)
class Memory:
    """The buffers of a program; places of constants and of instructions by operation, of tensors.

    sizes: what planning was about, for statistics.
    """

    buffers: tuple[Buffer, ...]
    constants: tuple[Place | None, ...]
    instructions: tuple[tuple[Place, ...], ...]
    tensors: Mapping[Tensor, Place]
    sizes: Mapping[str, int] = field(default_factory=dict)


def apart(lowered: Lowered, contents: Sequence[Content]) -> Memory:
    """Return Mesa's memory: tensors in its order, then what each operation brings along."""
    plan = plan_tensors(lowered.operations)
    filled: dict[int, tuple[str, bytes, str]] = {}

    def keep(role: str, data: bytes, name: str, room: int = 0) -> Place:
        buffer = plan.allocate(max(room, len(data)))
        filled[buffer] = (role, data, name)
        return Place(buffer, 0, len(data))

    constants: list[Place | None] = []
    instructions = []
    for content in contents:
        role, code = content.roles
        name, data = content.op.name, content.constants
        kept = None if data is None else keep(role, data, name, content.constants_room)
        constants.append(kept)
        instructions.append(tuple(keep(code, i, name) for i in content.instructions))
    names: dict[int, str] = {}
    for tensor, where in plan.places.items():
        names.setdefault(where.buffer, tensor.name)
    buffers = []
    for number, size in enumerate(plan.sizes):
        unfilled = ("tensor", None, names.get(number, "unused"))
        kind, content_of, title = filled.get(number, unfilled)
        buffers.append(Buffer(kind, size, content_of, title))
    return Memory(tuple(buffers), tuple(constants), tuple(instructions), plan.places)


def together(
    lowered: Lowered, contents: Sequence[Content], chip: Chip, shares: bool = True
) -> Memory:
    """Return seven buffers, or fewer where one would be empty.

    shares: tensors that live at different times may lie in the same bytes.
    """
    buffers: list[Buffer] = []
    constants, instructions = _pooled(contents, buffers)
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
        constants=constants,
        instructions=instructions,
        tensors=tensors,
        sizes={
            "arena_bytes": arena.peak,
            "arena_bound": lower_bound([lives[t] for t in between]),
            "tensor_bytes": sum(rooms.values()),
        },
    )


def _pooled(
    contents: Sequence[Content], buffers: list[Buffer]
) -> tuple[tuple[Place | None, ...], tuple[tuple[Place, ...], ...]]:
    """Append a buffer for each kind of constants and instructions; return their places."""
    used = dict.fromkeys(role for content in contents for role in content.roles)
    empty = {"lut"} if all(c.constants is None for c in contents if isinstance(c.op, TP)) else set()
    numbers = {role: n for n, role in enumerate(role for role in used if role not in empty)}
    pools = {role: Pool(role, _BURST if role == "coefficients" else 64) for role in numbers}

    def keep(role: str, data: bytes, once: bool) -> Place:
        return Place(numbers[role], pools[role].add(data, once=once), len(data))

    constants = tuple(
        None if c.constants is None else keep(c.roles[0], c.constants, once=True) for c in contents
    )
    instructions = tuple(
        tuple(keep(c.roles[1], data, once=False) for data in c.instructions) for c in contents
    )
    buffers += [pool.buffer for pool in pools.values()]
    return constants, instructions


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
