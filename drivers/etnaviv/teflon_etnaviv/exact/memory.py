"""Memory of strategy exact: few buffers for a whole program.

Coefficients and tables (equal ones once), instructions, inputs, an arena of what lives between
operations, outputs. Inputs and outputs are not in the arena because the CPU waits for whole
buffers and synchronises them.

Ref: docs/hardware/etnaviv.md sections 2.5 and 2.6 (an operation starts when the one before it has
ended: what it reads may be written over by the next one)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from teflon_common.arena import ALIGNMENT, Arena, Lifetime, Pool, lower_bound, place, row
from teflon_common.program import Buffer
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.engines import ENGINES
from teflon_etnaviv.memory import Memory, Packed, Place, put_away
from teflon_etnaviv.nn.engine import NN_CORES
from teflon_etnaviv.operations import Compiled, Lowered, Operation, Work
from teflon_etnaviv.program import TENSOR
from teflon_etnaviv.tensors import Tensor

_BURST = 0x100
"""What the cores fetch coefficients in at most, bytes. Ref: docs/hardware/etnaviv.md section 1.3"""
_CONSTANTS = {engine.constants_role for engine in ENGINES.values()}


def together(
    lowered: Lowered, done: Sequence[tuple[Work, Compiled]], chip: Chip, shares: bool = True
) -> Memory:
    """Return seven buffers, or fewer where one would be empty.

    shares: tensors that live at different times may lie in the same bytes.
    """
    operations, buffers = _pooled(done)
    homes = homes_of(lowered)
    rooms = rooms_of(lowered, homes, chip)
    inputs = list(dict.fromkeys(homes[t][0] for t in lowered.inputs))
    ends = dict.fromkeys(homes[t][0] for t in lowered.outputs)
    outputs = [t for t in ends if t not in inputs]
    between = [t for t in rooms if t not in ends and t not in inputs]
    lives = lifetimes(lowered.operations, homes, rooms)
    arena = place([lives[t] for t in between]) if shares else row([rooms[t] for t in between])
    starts = _laid_out(
        buffers,
        ("inputs", inputs, row([rooms[t] for t in inputs])),
        ("arena", between, arena),
        ("outputs", outputs, row([rooms[t] for t in outputs])),
    )
    tensors = {}
    for tensor, (home, offset) in homes.items():
        buffer, start = starts[home]
        tensors[tensor] = Place(buffer, start + offset, tensor.size_bytes)
    return Memory(
        buffers=tuple(buffers),
        operations=operations,
        tensors=tensors,
        inputs=tuple(tensors[t] for t in lowered.inputs),
        outputs=tuple(tensors[t] for t in lowered.outputs),
        sizes={
            "arena_bytes": arena.peak,
            "arena_bound": lower_bound([lives[t] for t in between]),
            "tensor_bytes": sum(rooms.values()),
        },
    )


def _laid_out(
    buffers: list[Buffer], *groups: tuple[str, list[Tensor], Arena]
) -> dict[Tensor, tuple[int, int]]:
    """Append a buffer for each group that is not empty; return (buffer, offset) of its tensors."""
    starts: dict[Tensor, tuple[int, int]] = {}
    for name, group, placed in groups:
        if group:
            found = ((len(buffers), offset) for offset in placed.offsets)
            starts.update(zip(group, found, strict=True))
            buffers.append(Buffer(TENSOR, placed.peak, None, name))
    return starts


def _pooled(
    done: Sequence[tuple[Work, Compiled]],
) -> tuple[tuple[Packed, ...], list[Buffer]]:
    """Put away what each operation brings along, in a buffer for each role."""
    pools: dict[str, Pool] = {}
    numbers: dict[str, int] = {}

    def keep(role: str, data: bytes, _name: str, _room: int) -> Place:
        if role not in pools:
            numbers[role] = len(pools)
            pools[role] = Pool(role, _BURST if role == NN_CORES.constants_role else ALIGNMENT)
        once = role in _CONSTANTS
        return Place(numbers[role], pools[role].add(data, once=once), len(data))

    operations = tuple(put_away(op, compiled, keep) for op, compiled in done)
    return operations, [pool.buffer for pool in pools.values()]


def homes_of(lowered: Lowered) -> dict[Tensor, tuple[Tensor, int]]:
    """Return the home of each tensor, and its offset there.

    A home is the outermost tensor that a tensor lives in, or the tensor itself.
    """
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
    """Return the bytes that each home needs: its own, and what operations may write behind them."""
    rooms = {home: home.size_bytes for home, _ in homes.values()}
    for op in lowered.work:
        home, offset = homes[op.outputs[0]]
        rooms[home] = max(rooms[home], offset + op.written_bytes(chip))
    return rooms


def lifetimes(
    operations: Sequence[Operation],
    homes: Mapping[Tensor, tuple[Tensor, int]],
    rooms: Mapping[Tensor, int],
) -> dict[Tensor, Lifetime]:
    """Return the operations from which and up to which each home must be kept."""
    steps: dict[Tensor, list[int]] = {}
    for number, op in enumerate(operations):
        for tensor in (*op.inputs, *op.outputs):
            steps.setdefault(homes[tensor][0], []).append(number)
    return {t: Lifetime(rooms[t], min(found), max(found)) for t, found in steps.items()}
