"""What a TP operation is compiled to."""

from __future__ import annotations

from dataclasses import dataclass

from teflon_etnaviv.descriptors import TPInstruction


@dataclass(frozen=True)
class Job:
    """One job: its instruction, and where it starts within input and output."""

    instruction: TPInstruction
    input_offset: int = 0
    output_offset: int = 0


@dataclass(frozen=True)
class Jobs:
    """A compiled TP operation; `table` is its lookup table."""

    jobs: tuple[Job, ...]
    table: bytes | None = None
