# Ref: docs/hardware/rocket.md §1.2 (words), §1.3 (full lists), §8.1 (last value counts)
# Ref: docs/hardware/rocket_vendor.md §1 (LUT load: one port, many writes)
"""From a command list to register values; what the simulator does not model is refused."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from teflon.errors import SimulatorFault
from teflon_common.registers import Register
from teflon_rocket.registers import (
    DPU,
    ENABLE_TARGET,
    PC,
    PREPARE_WORD,
    REGISTERS,
    WRITE,
    split_command,
)

R = TypeVar("R", bound=Register)

Fields = Mapping[type[Register], str]
"""Register -> names of the fields that the model interprets or may ignore, blank-separated."""

FIELDS: Fields = {
    PC.BASE_ADDRESS: "PC_SOURCE_ADDR",  # where the next list lies: prefetch only
    PC.REGISTER_AMOUNTS: "PC_DATA_AMOUNT CORES",
}
OPTIONAL = frozenset(FIELDS)
_PORT = frozenset({DPU.LUT_ACCESS_CFG, DPU.LUT_ACCESS_DATA})


class RegisterFile:
    """Register values of one task: ``registers[CNA.CONV_CON3].CONV_X_STRIDE``.

    accesses: all writes to the access port of the DPU's tables, in order.
    """

    def __init__(
        self,
        values: Mapping[type[Register], int],
        accesses: Sequence[tuple[type[Register], int]] = (),
    ) -> None:
        self._values, self.accesses = values, accesses
        self._unpacked: dict[type[Register], Register] = {}

    def __getitem__(self, register: type[R]) -> R:
        found = self._unpacked.get(register)
        if found is None:
            found = self._unpacked[register] = register.unpack(self._values[register])
        return found  # type: ignore[return-value]  # keyed by its own class

    def check(self, interpreted: Mapping[type[Register], int]) -> None:
        """Raise SimulatorFault unless all these registers were written and no other bit is set.

        `interpreted` maps registers to the mask of bits that the model knows; see `masks`.
        """
        for register, value in self._values.items():
            if register in _PORT:
                continue  # `accesses` has all its values
            unknown = value & ~interpreted.get(register, 0)
            if unknown:
                raise SimulatorFault(_unmodelled(register, unknown))
        for register in interpreted:
            if register not in self._values and register not in OPTIONAL:
                raise SimulatorFault(
                    f"{register.title()}: is not written, must be (a task carries its full list)"
                )


def signed(value: int, width: int) -> int:
    """Return a field's bits as a number in two's complement."""
    return value - (value >> (width - 1) << width)


def masks(*tables: Fields) -> dict[type[Register], int]:
    """Return for each register the bits of the fields that the tables name."""
    return {
        register: sum(f.mask for f in register.fields if f.name in names.split())
        for table in tables
        for register, names in table.items()
    }


def _unmodelled(register: type[Register], value: int) -> str:
    for field in register.fields:
        if value & field.mask:
            stored = (value & field.mask) >> field.lo
            return f"{register.title()}: {field.name} is stored as #{stored:x}, is not modelled"
    return f"{register.title()}: undocumented bits #{value:08x} are set, are not modelled"


def collect(words: list[int]) -> tuple[RegisterFile, int]:
    """Return the last value of each register, and the enable word's mask of blocks.

    Raises SimulatorFault for unknown words and registers, and when the enable word is missing,
    not prepared or not the last one.
    """
    values: dict[type[Register], int] = {}
    accesses: list[tuple[type[Register], int]] = []
    before = 0
    for index, word in enumerate(words):
        target, offset, value = split_command(word)
        if target == ENABLE_TARGET and offset == PC.OPERATION_ENABLE.offset:
            if before != PREPARE_WORD:
                raise SimulatorFault(
                    f"PC.OPERATION_ENABLE: word {index} enables blocks behind #{before:016x}, must"
                    f" stand behind #{PREPARE_WORD:016x}"
                )
            if any(words[index + 1 :]):
                raise SimulatorFault(
                    f"PC.OPERATION_ENABLE: words follow the enable word {index}, must be the last"
                )
            return RegisterFile(values, accesses), value
        before = word
        if word in (0, PREPARE_WORD):
            continue
        register = REGISTERS.find(target - WRITE, offset)
        if register is None:
            raise SimulatorFault(
                f"word {index}: target #{target:04x} has no register #{offset:04x} (#{word:016x})"
            )
        values[register] = value
        if register in _PORT:
            accesses.append((register, value))
    raise SimulatorFault("PC.OPERATION_ENABLE: is not in the list, must end it (nothing runs)")
