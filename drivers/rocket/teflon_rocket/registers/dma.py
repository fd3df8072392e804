# Ref: docs/hardware/rocket_registers.json, docs/hardware/rocket.md §3
# Ref: Mesa, src/gallium/drivers/rocket/registers.xml (names, offsets, bit positions)
# Ref: RK3588 TRM part 1, chapter 36 (meaning)
"""The registers of the AXI arbiters."""

from teflon_common.registers import Block, Register, bits


class DDMA(Block, target=0x10000):
    """AXI arbitration for DRAM. Its target does not fit a command word: bus only."""

    class CFG_OUTSTANDING(Register, offset=0x8000):
        """Outstanding AXI transactions."""

        RD_OS_CNT: int = bits(7, 0)  # reads
        WR_OS_CNT: int = bits(15, 8)  # writes

    class RD_WEIGHT_0(Register, offset=0x8004):
        """Read arbitration weights."""

        RD_WEIGHT_FEATURE: int = bits(7, 0)  # features
        RD_WEIGHT_KERNEL: int = bits(15, 8)  # weights
        RD_WEIGHT_DPU: int = bits(23, 16)  # DPU
        RD_WEIGHT_PDP: int = bits(31, 24)  # PPU

    class WR_WEIGHT_0(Register, offset=0x8008):
        """Write arbitration weights."""

        WR_WEIGHT_DPU: int = bits(7, 0)  # DPU
        WR_WEIGHT_PDP: int = bits(15, 8)  # PPU

    class CFG_ID_ERROR(Register, offset=0x800C):
        """AXI ids of failed transfers."""

        RD_RESP_ID: int = bits(4, 0)  # read
        WR_RESP_ID: int = bits(9, 6)  # write

    class RD_WEIGHT_1(Register, offset=0x8010):
        """Read arbitration weight."""

        RD_WEIGHT_PC: int = bits(7, 0)  # PC

    class CFG_DMA_FIFO_CLR(Register, offset=0x8014):
        """Clear DMA FIFOs."""

        DMA_FIFO_CLR: int = bits(0, 0)  # 1 = clear

    class CFG_DMA_ARB(Register, offset=0x8018):
        """Arbitration model."""

        RD_FIX_ARB: int = bits(2, 0)  # fixed read order
        WR_FIX_ARB: int = bits(6, 4)  # fixed write order
        RD_ARBIT_MODEL: int = bits(8, 8)  # read
        WR_ARBIT_MODEL: int = bits(9, 9)  # write

    class CFG_DMA_RD_QOS(Register, offset=0x8020):
        """AXI quality of service."""

        RD_FEATURE_QOS: int = bits(1, 0)  # features
        RD_KERNEL_QOS: int = bits(3, 2)  # weights
        RD_DPU_QOS: int = bits(5, 4)  # DPU
        RD_PPU_QOS: int = bits(7, 6)  # PPU
        RD_PC_QOS: int = bits(9, 8)  # PC

    class CFG_DMA_RD_CFG(Register, offset=0x8024):
        """AXI read attributes."""

        RD_ARSIZE: int = bits(2, 0)
        RD_ARBURST: int = bits(4, 3)
        RD_ARPROT: int = bits(7, 5)
        RD_ARCACHE: int = bits(11, 8)
        RD_ARLOCK: int = bits(12, 12)

    class CFG_DMA_WR_CFG(Register, offset=0x8028):
        """AXI write attributes."""

        WR_AWSIZE: int = bits(2, 0)
        WR_AWBURST: int = bits(4, 3)
        WR_AWPROT: int = bits(7, 5)
        WR_AWCACHE: int = bits(11, 8)
        WR_AWLOCK: int = bits(12, 12)

    class CFG_DMA_WSTRB(Register, offset=0x802C):
        """AXI write strobes."""

        WR_WSTRB: int = bits(31, 0)

    class CFG_STATUS(Register, offset=0x8030):
        """DMA state."""

        IDEL: int = bits(8, 8)  # 1 = idle


class SDMA(Block, target=0x20000):
    """AXI arbitration for SRAM. Its target does not fit a command word: bus only."""

    class CFG_OUTSTANDING(DDMA.CFG_OUTSTANDING, offset=0x9000):
        """Outstanding AXI transactions."""

    class RD_WEIGHT_0(DDMA.RD_WEIGHT_0, offset=0x9004):
        """Read arbitration weights."""

    class WR_WEIGHT_0(DDMA.WR_WEIGHT_0, offset=0x9008):
        """Write arbitration weights."""

    class CFG_ID_ERROR(DDMA.CFG_ID_ERROR, offset=0x900C):
        """AXI ids of failed transfers."""

    class RD_WEIGHT_1(DDMA.RD_WEIGHT_1, offset=0x9010):
        """Read arbitration weight."""

    class CFG_DMA_FIFO_CLR(DDMA.CFG_DMA_FIFO_CLR, offset=0x9014):
        """Clear DMA FIFOs."""

    class CFG_DMA_ARB(DDMA.CFG_DMA_ARB, offset=0x9018):
        """Arbitration model."""

    class CFG_DMA_RD_QOS(DDMA.CFG_DMA_RD_QOS, offset=0x9020):
        """AXI quality of service."""

    class CFG_DMA_RD_CFG(DDMA.CFG_DMA_RD_CFG, offset=0x9024):
        """AXI read attributes."""

    class CFG_DMA_WR_CFG(DDMA.CFG_DMA_WR_CFG, offset=0x9028):
        """AXI write attributes."""

    class CFG_DMA_WSTRB(DDMA.CFG_DMA_WSTRB, offset=0x902C):
        """AXI write strobes."""

    class CFG_STATUS(DDMA.CFG_STATUS, offset=0x9030):
        """DMA state."""
