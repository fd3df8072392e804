"""What the two engines have in common: how instructions hold addresses, and what they cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from teflon.pipe import Cost, Data
from teflon_common.registers import Descriptor
from teflon_etnaviv.program import ADDR26_SHR6, ADDR32, Launch

if TYPE_CHECKING:  # for estimates only
    from teflon_etnaviv.rates import Model


@dataclass(frozen=True)
class Address:
    """A word of an instruction that holds a device address: its byte offset, and a Reloc's kind."""

    offset: int
    kind: str

    @classmethod
    def of(cls, instruction: type[Descriptor], name: str) -> Address:
        """Return where a field holds an address: whole in 32 bits, without its low 6 bits in 26."""
        (field,) = (f for f in instruction.fields if f.name == name)
        return cls(4 * field.word, ADDR32 if field.width == 32 else ADDR26_SHR6)


class Engine(ABC):
    """One of the chip's engines: the NN cores, or the TP cores."""

    instruction: ClassVar[type[Descriptor]]
    code_role: ClassVar[str]
    """Role of the buffers that hold its instructions."""
    constants_role: ClassVar[str]
    """Role of the buffers that hold coefficients or lookup tables."""
    input: ClassVar[Address]
    output: ClassVar[Address]
    constants: ClassVar[Address]

    @abstractmethod
    def cost(self, code: Data, launch: Launch, model: Model) -> Cost:
        """Return what an instruction costs, read from its bytes."""
