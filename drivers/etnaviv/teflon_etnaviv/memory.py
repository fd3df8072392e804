"""Where the bytes of a program lie: what a strategy's planner returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from teflon_common.program import Buffer
from teflon_etnaviv.operations import Compiled, Lowered, Work
from teflon_etnaviv.tensors import Tensor


@dataclass(frozen=True)
class Place:
    """Bytes of a buffer."""

    buffer: int
    offset: int
    size: int


@dataclass(frozen=True, eq=False)
class Packed:
    """An operation with the places of its instructions and constants."""

    op: Work
    compiled: Compiled
    instructions: tuple[Place, ...]
    constants: Place | None


@dataclass(frozen=True, eq=False)
class Memory:
    """The buffers of a program, and where operations and tensors have their bytes.

    inputs, outputs: where the caller's arrays go to and come from; sizes: what planning was about,
    for statistics.
    """

    buffers: tuple[Buffer, ...]
    operations: tuple[Packed, ...]
    tensors: Mapping[Tensor, Place]
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)


Pack = Callable[[Lowered, Sequence[tuple[Work, Compiled]]], Memory]
"""Finds places for a partition's tensors and for what its operations bring along."""

Keep = Callable[[str, bytes, str, int], Place]
"""Puts bytes of a role somewhere: (role, data, name, bytes that Mesa asks for)."""


def put_away(op: Work, compiled: Compiled, keep: Keep) -> Packed:
    """Put away what an operation brings along, constants first."""
    engine, constants = op.engine, None
    if compiled.constants is not None:
        constants = keep(engine.constants_role, compiled.constants, op.name, compiled.room)
    instructions = tuple(
        keep(engine.code_role, job.instruction.to_bytes(), op.name, 0) for job in compiled.jobs
    )
    return Packed(op, compiled, instructions, constants)
