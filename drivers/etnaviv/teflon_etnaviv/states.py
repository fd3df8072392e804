"""The states that command streams write, and the words that carry them.

Ref: docs/hardware/etnaviv.md sections 2.4 to 2.6
Ref: Mesa, src/etnaviv/hw/state.xml.h, state_3d.xml.h, cmdstream.xml.h (names)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from teflon_common.registers import Block, Register, RegisterMap, bits

LOAD_STATE = 1
"""Opcode in bits 31:27 of the words that write states."""
IDLE = (3, 9)
"""Opcodes of commands of two words that change nothing: NOP, and STALL, which waits for a unit.

Ref: Linux, drivers/gpu/drm/etnaviv/cmdstream.xml.h (FE_OPCODE_NOP, FE_OPCODE_STALL)
"""


class PA(Block, target=0):
    """Primitive assembly; set once so that the pipe is in a known mode."""

    class SYSTEM_MODE(Register, offset=0x0A28):
        """Vertex conventions; no meaning for the NN, written as the vendor does."""

        PROVOKING_VERTEX_LAST: bool = bits(0, 0)
        HALF_PIXEL_CENTER: bool = bits(4, 4)


class PS(Block, target=1):
    """Launches: writing an address starts the engine."""

    class NN_INST_ADDR(Register, offset=0x10A0):
        """Address of an NN instruction; the low bits number operations in parallel mode."""

        INDEX: int = bits(4, 0)
        ADDRESS: int = bits(31, 5)  # address >> 5

    class UNK10A4(Register, offset=0x10A4):
        """Written after every operation."""

        INDEX: int = bits(31, 0)  # 0, or the operation's number in parallel mode

    class TP_INST_ADDR(Register, offset=0x10B8):
        """Address of a TP instruction; low bits 0: the next instruction waits for this one."""

        INDEX: int = bits(4, 0)
        ADDRESS: int = bits(31, 5)  # address >> 5


class GL(Block, target=2):
    """Global states."""

    class SEMAPHORE_TOKEN(Register, offset=0x3808):
        """What a STALL behind it waits for; without effect here, as units run in order.

        Ref: Linux, drivers/gpu/drm/etnaviv/state.xml.h (VIVS_GL_SEMAPHORE_TOKEN)
        """

        FROM: int = bits(4, 0)
        TO: int = bits(12, 8)

    class FLUSH_CACHE(Register, offset=0x380C):
        """Caches that are written back or dropped."""

        DEPTH: bool = bits(0, 0)
        COLOR: bool = bits(1, 1)
        TEXTURE: bool = bits(2, 2)
        PE2D: bool = bits(3, 3)
        TEXTUREVS: bool = bits(4, 4)
        SHADER_L1: bool = bits(5, 5)
        SHADER_L2: bool = bits(6, 6)
        UNK10: bool = bits(10, 10)
        UNK11: bool = bits(11, 11)
        DESCRIPTOR_UNK12: bool = bits(12, 12)
        DESCRIPTOR_UNK13: bool = bits(13, 13)
        UNK14: bool = bits(14, 14)

    class API_MODE(Register, offset=0x384C):
        """Which programming interface the pipe serves."""

        MODE: int = bits(1, 0)  # 0 OpenGL, 1 OpenVG, 2 OpenCL

    class NN_CONFIG(Register, offset=0x3930):
        """How the NN cores work on the next launches."""

        UNK0: int = bits(1, 0)
        DISABLE_ZDPN: bool = bits(2, 2)
        DISABLE_SWTILING: bool = bits(3, 3)
        SMALL_BATCH: bool = bits(4, 4)
        DDR_BURST_SIZE: int = bits(6, 5)
        UNK7: bool = bits(7, 7)
        NN_CORE_COUNT: int = bits(11, 8)  # 0: all
        UNK12: bool = bits(12, 12)

    class OCB_REMAP_START(Register, offset=0x393C):
        """On-chip buffer remapping, unused."""

        ADDRESS: int = bits(31, 0)

    class OCB_REMAP_END(Register, offset=0x3940):
        """On-chip buffer remapping, unused."""

        ADDRESS: int = bits(31, 0)

    class TP_CONFIG(Register, offset=0x394C):
        """Always 0."""

        VALUE: int = bits(31, 0)

    class UNK03950(Register, offset=0x3950):
        """8 for the jobs of some multi-core TP operations but the last core's (section 2.6)."""

        VALUE: int = bits(31, 0)


BLOCKS: tuple[type[Block], ...] = (PA, PS, GL)
STATES = RegisterMap(*BLOCKS)
"""Every state that we know."""

_BY_ADDRESS = {register.offset: register for register in STATES}


def find(address: int) -> type[Register] | None:
    """Return the state at this address; None when it is not known."""
    return _BY_ADDRESS.get(address)


def header(address: int, count: int = 1) -> int:
    """Return the word before `count` values for the states from `address` on."""
    return LOAD_STATE << 27 | (count & 0x3FF) << 16 | address >> 2


@dataclass(frozen=True)
class Write:
    """One state as a stream writes it: value at byte `offset` of the stream."""

    offset: int
    address: int
    value: int

    def __str__(self) -> str:
        register = find(self.address)
        shown = str(register.unpack(self.value)) if register else f"#{self.value:08x}"
        return f"{self.offset:06x}: #{self.address:04x} {shown}"


@dataclass(frozen=True)
class BadWord:
    """A word of a stream that is neither a state nor a filler."""

    offset: int
    word: int


def decode(words: list[int]) -> Iterator[Write | BadWord]:
    """Yield what a command stream does; zero words are fillers, and NOP and STALL do nothing."""
    at = 0
    while at < len(words):
        word = words[at]
        if word == 0:
            at += 1
            continue
        if word >> 27 in IDLE and at + 2 <= len(words):
            at += 2
            continue
        if word >> 27 != LOAD_STATE:
            yield BadWord(4 * at, word)
            at += 1
            continue
        count = (word >> 16) & 0x3FF or 1024
        first = (word & 0xFFFF) << 2
        if at + 1 + count > len(words):
            yield BadWord(4 * at, word)
            return
        for i in range(count):
            yield Write(4 * (at + 1 + i), first + 4 * i, words[at + 1 + i])
        at += (count + 2) & ~1
