"""Operations: what lowering makes of a graph, and what each brings along for the chip.

An operation is a small frozen class. It has its fields, says how its descriptors are filled
(`compile`) and which commands start them (`start`), and how it is shown (`unit`, `detail`). What an
instruction costs is read from the instruction itself: see `engine.py`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from teflon_common.registers import Descriptor
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.cmdstream import Stream
from teflon_etnaviv.engine import Engine
from teflon_etnaviv.grouped import Grouped
from teflon_etnaviv.tensors import Tensor


@dataclass(frozen=True, eq=False)
class Operation:
    """Reads and writes tensors. `name` is that of the graph's operation, as users know it."""

    unit: ClassVar[str]
    """The unit that does it, as tables show it; at most six letters."""
    detail: ClassVar[str] = ""
    """One word that tells the operations of a unit apart."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def writing(self, number: int, tensor: Tensor) -> Self:
        """Return this operation with another tensor as one of its outputs."""
        outputs = (*self.outputs[:number], tensor, *self.outputs[number + 1 :])
        return dataclasses.replace(self, outputs=outputs)


@dataclass(frozen=True, eq=False)
class Job:
    """One instruction without addresses, and where it starts within input and output, in bytes."""

    instruction: Descriptor
    input_offset: int = 0
    output_offset: int = 0


@dataclass(frozen=True, eq=False)
class Compiled:
    """What an operation brings along: jobs, and constants (coefficients or a lookup table).

    room: bytes that Mesa asks of the kernel for the constants; coded: bytes of the constants that
    are coefficients.
    """

    jobs: tuple[Job, ...]
    constants: bytes | None = None
    room: int = 0
    coded: int = 0


class Work(Operation, ABC):
    """An operation that an engine executes.

    Instructions hold the addresses of the first input, of the first output and of the constants.
    Further inputs lie directly behind the first one.
    """

    engine: ClassVar[Engine]

    @abstractmethod
    def compile(self, chip: Chip) -> Compiled:
        """Return instructions and constants. Raises EncodingError for what does not fit them."""

    @abstractmethod
    def start(self, stream: Stream, places: Sequence[tuple[int, int]]) -> None:
        """Append the commands that start the jobs, whose instructions lie at these places."""

    def written_bytes(self, chip: Chip) -> int:
        """Return how many bytes from the output's start on may be written."""
        return self.outputs[0].size_bytes


@dataclass(frozen=True, eq=False)
class Lowered:
    """A partition after lowering, in the order of execution.

    places: tensors that live inside another one, at a byte offset; orders: outputs whose channels
    lie in another order, with the channel in each place; grouped: layers with a scale for each
    channel.
    """

    operations: tuple[Operation, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    places: Mapping[Tensor, tuple[Tensor, int]] = field(default_factory=dict)
    orders: Mapping[Tensor, Sequence[int]] = field(default_factory=dict)
    grouped: tuple[Grouped, ...] = ()

    @property
    def work(self) -> list[Work]:
        """The operations that an engine executes."""
        return [op for op in self.operations if isinstance(op, Work)]
