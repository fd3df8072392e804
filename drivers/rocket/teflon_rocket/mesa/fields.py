"""Values in fields as Mesa 26.2.6 puts them there: cut to the field, whatever they are."""

from __future__ import annotations

import functools

from teflon_common.registers import Register
from teflon_rocket.registers import WRITE

_KEPT = 8192  # packed commands that are remembered: layers repeat


@functools.lru_cache(_KEPT)
def wrapping(register: type[Register], **values: int) -> int:
    """Return the command with every value cut to its field, as Mesa's macros do."""
    packed = 0
    for field in register.fields:
        stored = values.get(field.name, field.minus) - field.minus
        packed |= (stored & ((1 << field.width) - 1)) << field.lo
    return (register.block.target + WRITE) << 48 | packed << 16 | register.offset
