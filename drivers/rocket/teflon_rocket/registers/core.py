# Ref: docs/hardware/rocket_registers.json, docs/hardware/rocket.md §3
# Ref: Mesa, src/gallium/drivers/rocket/registers.xml (names, offsets, bit positions)
# Ref: RK3588 TRM part 1, chapter 36 (meaning)
"""The registers of the CORE."""

from teflon_common.registers import Block, Register, bits
from teflon_rocket.registers.shared import Enable, Pointer, Status


class CORE(Block, target=0x0800):
    """The MAC array and its accumulator."""

    class S_STATUS(Status, offset=0x3000):
        """Read-only state of the two register groups (executers) of the block."""

    class S_POINTER(Pointer, offset=0x3004):
        """Selects and ping-pongs the two shadow register groups of the block; Mesa and the kernel
        write 0xE.
        """

    class OPERATION_ENABLE(Enable, offset=0x3008):
        """Starts the block; this register and every register behind it exist twice (ping-pong
        groups).
        """

    class MAC_GATING(Register, offset=0x300C):
        """Clock gating of the MAC array."""

        SLCG_OP_EN: int = bits(26, 0)  # reset value 0x7800800

    class MISC_CFG(Register, offset=0x3010):
        """MAC and accumulator mode."""

        # 1 = also compute the sum of the input values of each window, used by the DPU CPEND stage
        QD_EN: int = bits(0, 0)
        DW_EN: int = bits(1, 1)  # 1 = depthwise
        PROC_PRECISION: int = bits(10, 8)  # 0 int8, 1 int16, 2 fp16, 3 bf16, 6 int4, 7 tf32
        SOFT_GATING: int = bits(19, 14)  # accumulator clock gating

    class DATAOUT_SIZE_0(Register, offset=0x3014):
        """Size of the convolution result."""

        DATAOUT_WIDTH: int = bits(15, 0, minus=1)  # width
        DATAOUT_HEIGHT: int = bits(31, 16, minus=1)  # height

    class DATAOUT_SIZE_1(Register, offset=0x3018):
        """Size of the convolution result."""

        DATAOUT_CHANNEL: int = bits(15, 0, minus=1)  # padded output channels

    class CLIP_TRUNCATE(Register, offset=0x301C):
        """Accumulator to 32-bit conversion."""

        CLIP_TRUNCATE: int = bits(4, 0)  # right shift applied to the accumulator
        ROUND_TYPE: int = bits(6, 6)  # 0 = ties to even, 1 = ties up

    class UNKNOWN_3030(Register, offset=0x3030):
        """Absent from registers.xml and from the public manual; Mesa writes 0."""
