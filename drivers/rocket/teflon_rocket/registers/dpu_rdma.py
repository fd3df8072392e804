# Ref: docs/hardware/rocket_registers.json, docs/hardware/rocket.md §3
# Ref: Mesa, src/gallium/drivers/rocket/registers.xml (names, offsets, bit positions)
# Ref: RK3588 TRM part 1, chapter 36 (meaning)
"""The registers of the DPU's readers."""

from teflon_common.registers import Block, Register, bits
from teflon_rocket.registers.shared import Enable, Pointer, Status


class DPU_RDMA(Block, target=0x2000):
    """The read DMAs of the DPU: main, BS, BN and EW operands."""

    class RDMA_S_STATUS(Status, offset=0x5000):
        """Read-only state of the two register groups (executers) of the block."""

    class RDMA_S_POINTER(Pointer, offset=0x5004):
        """Selects and ping-pongs the two shadow register groups of the block; Mesa and the kernel
        write 0xE.
        """

    class RDMA_OPERATION_ENABLE(Enable, offset=0x5008):
        """Starts the block; this register and every register behind it exist twice (ping-pong
        groups).
        """

    class RDMA_DATA_CUBE_WIDTH(Register, offset=0x500C):
        """Cube read by the DPU read DMAs."""

        WIDTH: int = bits(12, 0, minus=1)

    class RDMA_DATA_CUBE_HEIGHT(Register, offset=0x5010):
        """Cube read by the DPU read DMAs."""

        HEIGHT: int = bits(12, 0, minus=1)
        EW_LINE_NOTCH_ADDR: int = bits(28, 16)  # pixels skipped at the end of an EW row

    class RDMA_DATA_CUBE_CHANNEL(Register, offset=0x5014):
        """Cube read by the DPU read DMAs."""

        CHANNEL: int = bits(12, 0, minus=1)

    class RDMA_SRC_BASE_ADDR(Register, offset=0x5018):
        """MRDMA source address."""

        SRC_BASE_ADDR: int = bits(31, 0)  # device address

    class RDMA_BRDMA_CFG(Register, offset=0x501C):
        """Per-channel operands of BS."""

        BRDMA_DATA_USE: int = bits(4, 1)  # bit 0 ALU (bias), bit 1 CPEND, bit 2 MUL, bit 3 shift

    class RDMA_BS_BASE_ADDR(Register, offset=0x5020):
        """Address of the BS operands (bias)."""

        BS_BASE_ADDR: int = bits(31, 0)  # device address

    class RDMA_NRDMA_CFG(Register, offset=0x5028):
        """Per-channel operands of BN."""

        NRDMA_DATA_USE: int = bits(4, 1)  # bit 0 ALU, bit 2 MUL, bit 3 shift

    class RDMA_BN_BASE_ADDR(Register, offset=0x502C):
        """Address of the BN operands."""

        BN_BASE_ADDR: int = bits(31, 0)  # device address

    class RDMA_ERDMA_CFG(Register, offset=0x5034):
        """EW operand reader."""

        ERDMA_DISABLE: int = bits(0, 0)  # 1 = off
        OV4K_BYPASS: int = bits(1, 1)  # 0 = split bursts that cross 4 KiB
        ERDMA_DATA_SIZE: int = bits(3, 2)  # 0 4-bit, 1 8-bit, 2 16-bit, 3 32-bit
        ERDMA_NONALIGN: int = bits(28, 28)  # 1 = non-aligned operand
        ERDMA_SURF_MODE: int = bits(29, 29)  # 0 = one surface in series, 1 = two
        ERDMA_DATA_MODE: int = bits(31, 30)  # 0 per channel, 1 per pixel, 2 per channel by pixel

    class RDMA_EW_BASE_ADDR(Register, offset=0x5038):
        """EW operand address."""

        EW_BASE_ADDR: int = bits(31, 0)  # device address

    class RDMA_EW_SURF_STRIDE(Register, offset=0x5040):
        """EW operand surface stride."""

        EW_SURF_STRIDE: int = bits(31, 4)  # pixels (16-byte units); 1 in per-channel mode

    class RDMA_FEATURE_MODE_CFG(Register, offset=0x5044):
        """Read DMA modes."""

        FLYING_MODE: int = bits(0, 0)  # 0 = DPU main data from the convolution, 1 = from MRDMA
        CONV_MODE: int = bits(2, 1)  # 0 direct, 3 depthwise
        MRDMA_FP16TOFP32_EN: int = bits(3, 3)  # widen fp16 input
        # 1 = main reader off; must be 1 when it has nothing to read or the job never ends
        MRDMA_DISABLE: int = bits(4, 4)
        PROC_PRECISION: int = bits(7, 5)  # 0 int8, 1 int16, 2 fp16, 3 bf16, 4 int32, 5 fp32, 6 int4
        # bit 0 MRDMA and ERDMA read the same tensor, bit 1 data to MRDMA, bit 2 data to ERDMA;
        # Mesa uses 5 for fused additions
        COMB_USE: int = bits(10, 8)
        BURST_LEN: int = bits(14, 11)  # AXI burst code: 3 = 4 beats, 7 = 8 beats, 15 = 16 beats
        IN_PRECISION: int = bits(17, 15)  # 0 int8, 1 int16, 2 fp16, 3 bf16, 4 int32, 5 fp32, 6 int4

    class RDMA_SRC_DMA_CFG(Register, offset=0x5048):
        """MRDMA un-pooling."""

        KERNEL_WIDTH: int = bits(2, 0, minus=1)
        KERNEL_HEIGHT: int = bits(5, 3, minus=1)
        KERNEL_STRIDE_WIDTH: int = bits(8, 6, minus=1)
        KERNEL_STRIDE_HEIGHT: int = bits(11, 9, minus=1)
        UNPOOLING_EN: int = bits(12, 12)  # enable
        POOLING_METHOD: int = bits(13, 13)  # 0 average/upsampling, 1 min or max
        LINE_NOTCH_ADDR: int = bits(31, 19)  # pixels skipped at the end of a row

    class RDMA_SURF_NOTCH(Register, offset=0x504C):
        """MRDMA surface skip."""

        # pixels between the end of what is read of a surface and the start of the next surface to
        # read
        SURF_NOTCH_ADDR: int = bits(31, 4)

    class RDMA_PAD_CFG(Register, offset=0x5064):
        """Un-pooling padding."""

        PAD_LEFT: int = bits(2, 0)  # columns
        PAD_TOP: int = bits(6, 4)  # rows
        PAD_VALUE: int = bits(31, 16)  # value

    class RDMA_WEIGHT(Register, offset=0x5068):
        """Arbitration weights of the four readers."""

        M_WEIGHT: int = bits(7, 0)  # MRDMA
        B_WEIGHT: int = bits(15, 8)  # BRDMA
        N_WEIGHT: int = bits(23, 16)  # NRDMA
        E_WEIGHT: int = bits(31, 24)  # ERDMA

    class RDMA_EW_SURF_NOTCH(Register, offset=0x506C):
        """ERDMA surface skip."""

        EW_SURF_NOTCH: int = bits(31, 4)  # as SURF_NOTCH_ADDR, for the EW operand
