# Ref: docs/hardware/rocket_registers.json, docs/hardware/rocket.md §3
# Ref: Mesa, src/gallium/drivers/rocket/registers.xml (names, offsets, bit positions)
# Ref: RK3588 TRM part 1, chapter 36 (meaning)
"""What the registers of several blocks have alike."""

from teflon_common.registers import Register, bits


class Status(Register):
    """Read-only state of the two register groups (executers) of the block."""

    STATUS_0: int = bits(1, 0)  # state of group 0: 0 idle, 1 running, 2 running/waiting
    STATUS_1: int = bits(17, 16)  # state of group 1: 0 idle, 1 running, 2 running/waiting


class Pointer(Register):
    """Selects and ping-pongs the two shadow register groups of the block; Mesa and the kernel
    write 0xE.
    """

    POINTER: int = bits(0, 0)  # group that register writes go to
    POINTER_PP_EN: int = bits(1, 1)  # enable toggling of the programming group
    EXECUTER_PP_EN: int = bits(2, 2)  # enable toggling of the executer group
    # 0: programming pointer toggles with the executer; 1: toggles by itself after each
    # program
    POINTER_PP_MODE: int = bits(3, 3)
    POINTER_PP_CLEAR: int = bits(4, 4)  # write 1: programming pointer back to group 0
    EXECUTER_PP_CLEAR: int = bits(5, 5)  # write 1: executer pointer back to group 0
    EXECUTER: int = bits(16, 16)  # read-only: group the executer uses


class Enable(Register):
    """Starts the block; this register and every register behind it exist twice (ping-pong
    groups).
    """

    OP_EN: int = bits(0, 0)  # 1 = start


class Interrupts(Register):
    """A bit for each source."""

    CNA_FEATURE_0: int = bits(0, 0)  # CNA feature loader group 0 done
    CNA_FEATURE_1: int = bits(1, 1)  # CNA feature loader group 1 done
    CNA_WEIGHT_0: int = bits(2, 2)  # CNA weight loader group 0 done
    CNA_WEIGHT_1: int = bits(3, 3)  # CNA weight loader group 1 done
    CNA_CSC_0: int = bits(4, 4)  # CNA sequence controller group 0 done
    CNA_CSC_1: int = bits(5, 5)  # CNA sequence controller group 1 done
    CORE_0: int = bits(6, 6)  # CORE group 0 done
    CORE_1: int = bits(7, 7)  # CORE group 1 done
    DPU_0: int = bits(8, 8)  # DPU group 0 done
    DPU_1: int = bits(9, 9)  # DPU group 1 done
    PPU_0: int = bits(10, 10)  # PPU group 0 done
    PPU_1: int = bits(11, 11)  # PPU group 1 done
    DMA_READ_ERROR: int = bits(12, 12)  # DMA read error
    DMA_WRITE_ERROR: int = bits(13, 13)  # DMA write error
