"""Memory of strategy mesa: a buffer for each thing, in the order in which Mesa creates them."""

from __future__ import annotations

from collections.abc import Sequence

from teflon_common.program import Buffer
from teflon_etnaviv.memory import Memory, Place, put_away
from teflon_etnaviv.mesa.memory_plan import plan_tensors
from teflon_etnaviv.operations import Compiled, Lowered, Work
from teflon_etnaviv.program import TENSOR


def apart(lowered: Lowered, done: Sequence[tuple[Work, Compiled]]) -> Memory:
    """Return Mesa's memory: tensors in its order, then what each operation brings along.

    Outputs are read from the start of their buffers (B10).
    """
    plan = plan_tensors(lowered.operations)
    filled: dict[int, tuple[str, bytes, str]] = {}

    def keep(role: str, data: bytes, name: str, room: int) -> Place:
        buffer = plan.allocate(max(room, len(data)))
        filled[buffer] = (role, data, name)
        return Place(buffer, 0, len(data))

    operations = tuple(put_away(op, compiled, keep) for op, compiled in done)
    names: dict[int, str] = {}
    for tensor, where in plan.places.items():
        names.setdefault(where.buffer, tensor.name)
    buffers = []
    for number, size in enumerate(plan.sizes):
        unfilled = (TENSOR, None, names.get(number, "unused"))
        role, data, name = filled.get(number, unfilled)
        buffers.append(Buffer(role, size, data, name))
    ends = [plan.places[t] for t in lowered.outputs]
    return Memory(
        buffers=tuple(buffers),
        operations=operations,
        tensors=plan.places,
        inputs=tuple(plan.places[t] for t in lowered.inputs),
        outputs=tuple(Place(end.buffer, 0, end.size) for end in ends),
    )
