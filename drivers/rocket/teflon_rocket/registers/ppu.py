# Ref: docs/hardware/rocket_registers.json, docs/hardware/rocket.md §3
# Ref: Mesa, src/gallium/drivers/rocket/registers.xml (names, offsets, bit positions)
# Ref: RK3588 TRM part 1, chapter 36 (meaning)
"""The registers of the pooling unit and its reader."""

from teflon_common.registers import Block, Register, bits
from teflon_rocket.registers.shared import Enable, Pointer, Status


class PPU(Block, target=0x4000):
    """Pooling."""

    class S_STATUS(Status, offset=0x6000):
        """Read-only state of the two register groups (executers) of the block."""

    class S_POINTER(Pointer, offset=0x6004):
        """Selects and ping-pongs the two shadow register groups of the block; Mesa and the kernel
        write 0xE.
        """

    class OPERATION_ENABLE(Enable, offset=0x6008):
        """Starts the block; this register and every register behind it exist twice (ping-pong
        groups).
        """

    class DATA_CUBE_IN_WIDTH(Register, offset=0x600C):
        """Pooling input."""

        CUBE_IN_WIDTH: int = bits(12, 0, minus=1)

    class DATA_CUBE_IN_HEIGHT(Register, offset=0x6010):
        """Pooling input."""

        CUBE_IN_HEIGHT: int = bits(12, 0, minus=1)

    class DATA_CUBE_IN_CHANNEL(Register, offset=0x6014):
        """Pooling input."""

        CUBE_IN_CHANNEL: int = bits(12, 0, minus=1)

    class DATA_CUBE_OUT_WIDTH(Register, offset=0x6018):
        """Pooling output."""

        CUBE_OUT_WIDTH: int = bits(12, 0, minus=1)

    class DATA_CUBE_OUT_HEIGHT(Register, offset=0x601C):
        """Pooling output."""

        CUBE_OUT_HEIGHT: int = bits(12, 0, minus=1)

    class DATA_CUBE_OUT_CHANNEL(Register, offset=0x6020):
        """Pooling output."""

        CUBE_OUT_CHANNEL: int = bits(12, 0, minus=1)

    class OPERATION_MODE_CFG(Register, offset=0x6024):
        """Pooling mode."""

        POOLING_METHOD: int = bits(1, 0)  # 0 average, 1 max, 2 min
        FLYING_MODE: int = bits(4, 4)  # 0 = input from DPU, 1 = from PPU_RDMA
        USE_CNT: int = bits(7, 5)  # unknown
        NOTCH_ADDR: int = bits(28, 16)  # pixels skipped at the end of a row
        INDEX_EN: int = bits(30, 30)  # 1 = also write the position of the maximum

    class POOLING_KERNEL_CFG(Register, offset=0x6034):
        """Pooling window."""

        KERNEL_WIDTH: int = bits(3, 0, minus=1)
        KERNEL_HEIGHT: int = bits(11, 8, minus=1)
        KERNEL_STRIDE_WIDTH: int = bits(19, 16, minus=1)
        KERNEL_STRIDE_HEIGHT: int = bits(23, 20, minus=1)

    class RECIP_KERNEL_WIDTH(Register, offset=0x6038):
        """Average pooling."""

        # 65536 / kernel width (as fp16 bits when pooling fp16 on RK3588)
        RECIP_KERNEL_WIDTH: int = bits(16, 0)

    class RECIP_KERNEL_HEIGHT(Register, offset=0x603C):
        """Average pooling."""

        # 65536 / kernel height (as fp16 bits when pooling fp16 on RK3588)
        RECIP_KERNEL_HEIGHT: int = bits(16, 0)

    class POOLING_PADDING_CFG(Register, offset=0x6040):
        """Pooling padding; plain counts."""

        PAD_LEFT: int = bits(2, 0)  # columns
        PAD_TOP: int = bits(6, 4)  # rows
        PAD_RIGHT: int = bits(10, 8)  # columns
        PAD_BOTTOM: int = bits(14, 12)  # rows

    class PADDING_VALUE_1_CFG(Register, offset=0x6044):
        """Pooling padding value."""

        PAD_VALUE_0: int = bits(31, 0)  # low 32 bits

    class PADDING_VALUE_2_CFG(Register, offset=0x6048):
        """Pooling padding value."""

        PAD_VALUE_1: int = bits(2, 0)  # bits 34:32

    class DST_BASE_ADDR(Register, offset=0x6070):
        """Pooling output address."""

        DST_BASE_ADDR: int = bits(31, 4)  # bits 31:4

    class DST_SURF_STRIDE(Register, offset=0x607C):
        """Pooling output surface stride."""

        DST_SURF_STRIDE: int = bits(31, 4)  # bits 31:4 of the byte distance

    class DATA_FORMAT(Register, offset=0x6084):
        """Pooling format."""

        PROC_PRECISION: int = bits(2, 0)  # 0 int8, 1 int16, 2 fp16, 3 bf16, 4 int32, 5 fp32, 6 int4
        DPU_FLYIN: int = bits(3, 3)  # 1 = data from DPU that itself read memory
        # surface stride (times the number of 8-byte surfaces when INDEX_EN)
        INDEX_ADD: int = bits(31, 4)

    class MISC_CTRL(Register, offset=0x60DC):
        """Pooling output."""

        BURST_LEN: int = bits(3, 0)  # AXI burst code: 3 = 4 beats, 7 = 8 beats, 15 = 16 beats
        NONALIGN: int = bits(7, 7)  # non-aligned
        MC_SURF_OUT: int = bits(8, 8)  # several surfaces in series
        SURF_LEN: int = bits(31, 16)  # surface count


class PPU_RDMA(Block, target=0x8000):
    """The reader of the pooling unit."""

    class RDMA_S_STATUS(Status, offset=0x7000):
        """Read-only state of the two register groups (executers) of the block."""

    class RDMA_S_POINTER(Pointer, offset=0x7004):
        """Selects and ping-pongs the two shadow register groups of the block; Mesa and the kernel
        write 0xE.
        """

    class RDMA_OPERATION_ENABLE(Enable, offset=0x7008):
        """Starts the block; this register and every register behind it exist twice (ping-pong
        groups).
        """

    class RDMA_CUBE_IN_WIDTH(Register, offset=0x700C):
        """Pooling reader."""

        CUBE_IN_WIDTH: int = bits(12, 0, minus=1)

    class RDMA_CUBE_IN_HEIGHT(Register, offset=0x7010):
        """Pooling reader."""

        CUBE_IN_HEIGHT: int = bits(12, 0, minus=1)

    class RDMA_CUBE_IN_CHANNEL(Register, offset=0x7014):
        """Pooling reader."""

        CUBE_IN_CHANNEL: int = bits(12, 0, minus=1)

    class RDMA_SRC_BASE_ADDR(Register, offset=0x701C):
        """Pooling reader."""

        SRC_BASE_ADDR: int = bits(31, 0)  # device address

    class RDMA_SRC_LINE_STRIDE(Register, offset=0x7024):
        """Pooling reader."""

        SRC_LINE_STRIDE: int = bits(31, 4)  # bits 31:4 of the byte distance between rows

    class RDMA_SRC_SURF_STRIDE(Register, offset=0x7028):
        """Pooling reader."""

        SRC_SURF_STRIDE: int = bits(31, 4)  # bits 31:4 of the byte distance between surfaces

    class RDMA_DATA_FORMAT(Register, offset=0x7030):
        """Pooling reader."""

        IN_PRECISION: int = bits(1, 0)  # 0 4-bit, 1 8-bit, 2 16-bit, 3 32-bit
