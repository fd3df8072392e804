# Ref: docs/hardware/rocket.md §1.1 (blocks), §1.2 (command words)
"""Every register of the RK3588 NPU, and the 64-bit words that write them."""

from teflon_common.registers import Register, RegisterMap

from .cna import CNA
from .core import CORE
from .dma import DDMA, SDMA
from .dpu import DPU
from .dpu_rdma import DPU_RDMA
from .pc import GLOBAL, PC
from .ppu import PPU, PPU_RDMA

__all__ = [
    "CNA",
    "CORE",
    "DDMA",
    "DPU",
    "DPU_RDMA",
    "ENABLE_TARGET",
    "GLOBAL",
    "PC",
    "PPU",
    "PPU_RDMA",
    "PREPARE_WORD",
    "REGISTERS",
    "WRITE",
    "command",
    "enable_command",
    "split_command",
]

REGISTERS = RegisterMap(PC, CNA, CORE, DPU, DPU_RDMA, PPU, PPU_RDMA, DDMA, SDMA, GLOBAL)

WRITE = 1
"""Added to a block's target in a command word that writes one of its registers."""

ENABLE_TARGET = 0x0081
"""Target of the word whose value is the mask of blocks to start (as PC.OPERATION_ENABLE)."""

PREPARE_WORD = 0x0041 << 48
"""The word that has to stand before the enable word."""


def _word(target: int, value: int, offset: int) -> int:
    return target << 48 | value << 16 | offset


def command(register: Register) -> int:
    """The 64-bit command that writes this register; raises FieldOverflow."""
    return _word(register.block.target + WRITE, register.pack(), register.offset)


def enable_command(mask: int) -> int:
    """The 64-bit command that starts the blocks of GLOBAL.OPERATION_ENABLE's mask."""
    return _word(ENABLE_TARGET, mask, PC.OPERATION_ENABLE.offset)


def split_command(word: int) -> tuple[int, int, int]:
    """(target as it stands in the word, register offset, 32-bit value) of a 64-bit command."""
    return word >> 48, word & 0xFFFF, word >> 16 & 0xFFFFFFFF
