# Ref: docs/hardware/rocket_registers.json, docs/hardware/rocket.md §3
# Ref: Mesa, src/gallium/drivers/rocket/registers.xml (names, offsets, bit positions)
# Ref: RK3588 TRM part 1, chapter 36 (meaning)
"""The registers of the DPU."""

from teflon_common.registers import Block, Register, bits
from teflon_rocket.registers.shared import Enable, Pointer, Status


class DPU(Block, target=0x1000):
    """Post-processing: BS, BN, EW and output converter, then the write DMA."""

    class S_STATUS(Status, offset=0x4000):
        """Read-only state of the two register groups (executers) of the block."""

    class S_POINTER(Pointer, offset=0x4004):
        """Selects and ping-pongs the two shadow register groups of the block; Mesa and the kernel
        write 0xE.
        """

    class OPERATION_ENABLE(Enable, offset=0x4008):
        """Starts the block; this register and every register behind it exist twice (ping-pong
        groups).
        """

    class FEATURE_MODE_CFG(Register, offset=0x400C):
        """DPU data flow."""

        FLYING_MODE: int = bits(0, 0)  # 0 = main data from the convolution, 1 = from MRDMA
        OUTPUT_MODE: int = bits(2, 1)  # bit 0 = result to PPU, bit 1 = result to memory
        CONV_MODE: int = bits(4, 3)  # 0 = direct, 3 = depthwise
        BURST_LEN: int = bits(8, 5)  # AXI burst code: 3 = 4 beats, 7 = 8 beats, 15 = 16 beats
        SURF_LEN: int = bits(24, 9)  # non-aligned mode: 8-byte units to store
        NONALIGN: int = bits(25, 25)  # 1 = non-aligned output
        RGP_TYPE: int = bits(29, 26)  # regrouping width
        TP_EN: int = bits(30, 30)  # 1 = transpose
        COMB_USE: int = bits(31, 31)  # copy of bit 0 of DPU_RDMA COMB_USE

    class DATA_FORMAT(Register, offset=0x4010):
        """Precisions of the DPU."""

        PROC_PRECISION: int = bits(2, 0)  # 0 int8, 1 int16, 2 fp16, 3 bf16, 4 int32, 5 fp32, 6 int4
        MC_SURF_OUT: int = bits(3, 3)  # 0 = one surface, 1 = two or four surfaces in series
        BS_MUL_SHIFT_VALUE_NEG: int = bits(9, 4)  # BS shift for negative values
        BN_MUL_SHIFT_VALUE_NEG: int = bits(15, 10)  # BN shift for negative values
        EW_TRUNCATE_NEG: int = bits(25, 16)  # EW shift for negative values
        IN_PRECISION: int = bits(28, 26)  # 0 int8, 1 int16, 2 fp16, 3 bf16, 4 int32, 5 fp32, 6 int4
        # 0 int8, 1 int16, 2 fp16, 3 bf16, 4 int32, 5 fp32, 6 int4
        OUT_PRECISION: int = bits(31, 29)

    class OFFSET_PEND(Register, offset=0x4014):
        """Fill of the extra channels."""

        OFFSET_PEND: int = bits(15, 0)  # value given to output channels beyond ORIG_CHANNEL

    class DST_BASE_ADDR(Register, offset=0x4020):
        """Output address."""

        DST_BASE_ADDR: int = bits(31, 0)  # device address, 16-byte aligned

    class DST_SURF_STRIDE(Register, offset=0x4024):
        """Output surface stride."""

        # bytes between surfaces, bits 31:4 (= pixels, 16 bytes each)
        DST_SURF_STRIDE: int = bits(31, 4)

    class DATA_CUBE_WIDTH(Register, offset=0x4030):
        """Cube width."""

        WIDTH: int = bits(12, 0, minus=1)

    class DATA_CUBE_HEIGHT(Register, offset=0x4034):
        """Cube height."""

        HEIGHT: int = bits(12, 0, minus=1)
        # min/max operation: bit 0 enable, bit 1 type, bit 2 probability only
        MINMAX_CTL: int = bits(24, 22)

    class DATA_CUBE_NOTCH_ADDR(Register, offset=0x4038):
        """Pixels skipped at the end of a row."""

        NOTCH_ADDR_0: int = bits(12, 0)  # first notch
        NOTCH_ADDR_1: int = bits(28, 16)  # second notch

    class DATA_CUBE_CHANNEL(Register, offset=0x403C):
        """Cube channels."""

        CHANNEL: int = bits(12, 0, minus=1)  # padded output channels
        ORIG_CHANNEL: int = bits(28, 16, minus=1)  # true output channels

    class BS_CFG(Register, offset=0x4040):
        """First post-processing stage (bias/scale)."""

        BS_BYPASS: int = bits(0, 0)  # 1 = whole stage off
        BS_ALU_BYPASS: int = bits(1, 1)  # 1 = no add
        BS_MUL_BYPASS: int = bits(4, 4)  # 1 = no multiply
        BS_MUL_PRELU: int = bits(5, 5)  # 1 = multiply only negative values
        BS_RELU_BYPASS: int = bits(6, 6)  # 1 = no ReLU
        BS_RELUX_EN: int = bits(7, 7)  # 1 = clamp at RELUX value
        BS_ALU_SRC: int = bits(8, 8)  # 0 = operand from register, 1 = per channel from BRDMA
        BS_ALU_ALGO: int = bits(19, 16)  # 2 = add, 4 = subtract, other codes reserved

    class BS_ALU_CFG(Register, offset=0x4044):
        """BS add operand."""

        BS_ALU_OPERAND: int = bits(31, 0, signed=True)  # used when BS_ALU_SRC = 0

    class BS_MUL_CFG(Register, offset=0x4048):
        """BS multiplier."""

        BS_MUL_SRC: int = bits(0, 0)  # 0 = register, 1 = per channel from BRDMA
        BS_TRUNCATE_SRC: int = bits(1, 1)  # 0 = shift from register, 1 = from BRDMA
        BS_MUL_SHIFT_VALUE: int = bits(13, 8)  # right shift (positive values)
        BS_MUL_OPERAND: int = bits(31, 16, signed=True)  # multiplier when BS_MUL_SRC = 0

    class BS_RELUX_CMP_VALUE(Register, offset=0x404C):
        """BS clamp."""

        BS_RELUX_CMP_DAT: int = bits(31, 0, signed=True)  # upper limit

    class BS_OW_CFG(Register, offset=0x4050):
        """CPEND (zero point compensation) and write-out grouping."""

        OW_SRC: int = bits(0, 0)  # CPEND operand: 0 = register, 1 = per channel from BRDMA
        OD_BYPASS: int = bits(1, 1)  # 1 = no CPEND
        SIZE_E_0: int = bits(4, 2, minus=1)  # 8-channel groups of the first line
        SIZE_E_1: int = bits(7, 5, minus=1)  # 8-channel groups of a middle line
        SIZE_E_2: int = bits(10, 8, minus=1)  # 8-channel groups of the last line
        TP_ORG_EN: int = bits(27, 27)  # original transpose
        RGP_CNTER: int = bits(31, 28)  # regroup: keep 1 of 1/2/4/8

    class BS_OW_OP(Register, offset=0x4054):
        """CPEND operand."""

        OW_OP: int = bits(15, 0, signed=True)  # multiplied by the window input sum and added

    class WDMA_SIZE_0(Register, offset=0x4058):
        """Write DMA size."""

        CHANNEL_WDMA: int = bits(12, 0, minus=1)  # padded output channels
        SIZE_C_WDMA: int = bits(26, 16)  # size_c
        TP_PRECISION: int = bits(27, 27)  # transpose precision: 0 8-bit, 1 16-bit

    class WDMA_SIZE_1(Register, offset=0x405C):
        """Write DMA size."""

        WIDTH_WDMA: int = bits(12, 0, minus=1)
        HEIGHT_WDMA: int = bits(28, 16, minus=1)

    class BN_CFG(Register, offset=0x4060):
        """Second post-processing stage."""

        BN_BYPASS: int = bits(0, 0)  # 1 = whole stage off
        BN_ALU_BYPASS: int = bits(1, 1)  # 1 = no add
        BN_MUL_BYPASS: int = bits(4, 4)  # 1 = no multiply
        BN_MUL_PRELU: int = bits(5, 5)  # 1 = multiply only negative values
        BN_RELU_BYPASS: int = bits(6, 6)  # 1 = no ReLU
        BN_RELUX_EN: int = bits(7, 7)  # 1 = clamp at RELUX value
        BN_ALU_SRC: int = bits(8, 8)  # 0 = register, 1 = per channel from NRDMA
        BN_ALU_ALGO: int = bits(19, 16)  # 2 = add, 4 = subtract, other codes reserved

    class BN_ALU_CFG(Register, offset=0x4064):
        """BN add operand."""

        BN_ALU_OPERAND: int = bits(31, 0, signed=True)  # used when BN_ALU_SRC = 0

    class BN_MUL_CFG(Register, offset=0x4068):
        """BN multiplier."""

        BN_MUL_SRC: int = bits(0, 0)  # 0 = register, 1 = per channel from NRDMA
        BN_TRUNCATE_SRC: int = bits(1, 1)  # 0 = register, 1 = from NRDMA
        BN_MUL_SHIFT_VALUE: int = bits(13, 8)  # right shift (positive values)
        BN_MUL_OPERAND: int = bits(31, 16, signed=True)  # multiplier when BN_MUL_SRC = 0

    class BN_RELUX_CMP_VALUE(Register, offset=0x406C):
        """BN clamp."""

        BN_RELUX_CMP_DAT: int = bits(31, 0, signed=True)  # upper limit

    class EW_CFG(Register, offset=0x4070):
        """Element-wise stage."""

        EW_BYPASS: int = bits(0, 0)  # 1 = whole stage off
        EW_OP_BYPASS: int = bits(1, 1)  # 1 = no ALU/multiply
        EW_OP_TYPE: int = bits(2, 2)  # 0 = ALU, 1 = multiply
        EW_MUL_PRELU: int = bits(5, 5)  # 1 = multiply only negative values
        EW_OP_SRC: int = bits(6, 6)  # 0 = operands from EW_OP_VALUE, 1 = from ERDMA
        EW_LUT_BYPASS: int = bits(7, 7)  # 1 = no table look-up
        EW_OP_CVT_BYPASS: int = bits(8, 8)  # 1 = operand converter off
        EW_RELU_BYPASS: int = bits(9, 9)  # 1 = no ReLU
        EW_RELUX_EN: int = bits(10, 10)  # 1 = clamp at RELUX value
        # 0 max, 1 min, 2 add, 3 div, 4 subtract, 5 abs, 6 neg, 7 floor, 8 ceil
        EW_ALU_ALGO: int = bits(19, 16)
        EW_BINARY_EN: int = bits(20, 20)  # min/max binary
        EW_EQUAL_EN: int = bits(21, 21)  # min/max equality
        EDATA_SIZE: int = bits(23, 22)  # operand element: 0 4-bit, 1 8-bit, 2 16-bit, 3 32-bit
        # operand granularity (0 per channel, 1 per pixel; same code as ERDMA_DATA_MODE)
        EW_DATA_MODE: int = bits(29, 28)
        EW_CVT_ROUND: int = bits(30, 30)  # 0 = ties to even, 1 = ties up
        # operand converter: 0 = multiply first, 1 = add offset first
        EW_CVT_TYPE: int = bits(31, 31)

    class EW_CVT_OFFSET_VALUE(Register, offset=0x4074):
        """EW operand converter."""

        EW_OP_CVT_OFFSET: int = bits(31, 0, signed=True)  # offset

    class EW_CVT_SCALE_VALUE(Register, offset=0x4078):
        """EW operand converter."""

        EW_OP_CVT_SCALE: int = bits(15, 0)  # multiplier
        EW_OP_CVT_SHIFT: int = bits(21, 16)  # right shift
        EW_TRUNCATE: int = bits(31, 22)  # shift after the EW multiply

    class EW_RELUX_CMP_VALUE(Register, offset=0x407C):
        """EW clamp."""

        EW_RELUX_CMP_DAT: int = bits(31, 0, signed=True)  # upper limit

    class OUT_CVT_OFFSET(Register, offset=0x4080):
        """Output converter."""

        OUT_CVT_OFFSET: int = bits(31, 0, signed=True)  # added after scaling when CVT_TYPE = 0

    class OUT_CVT_SCALE(Register, offset=0x4084):
        """Output converter."""

        OUT_CVT_SCALE: int = bits(15, 0)  # multiplier
        FP32TOFP16_EN: int = bits(16, 16)  # 1 = narrow fp32 to fp16

    class OUT_CVT_SHIFT(Register, offset=0x4088):
        """Output converter."""

        OUT_CVT_SHIFT: int = bits(11, 0)  # right shift
        MINUS_EXP: int = bits(19, 12)  # float path: power of two divisor
        CVT_ROUND: int = bits(30, 30)  # 0 = ties to even, 1 = ties up
        CVT_TYPE: int = bits(31, 31)  # 0 = multiply then add, 1 = add then multiply

    class EW_OP_VALUE_0(Register, offset=0x4090):
        """EW register operand 0."""

        EW_OPERAND_0: int = bits(31, 0)  # used when EW_OP_SRC = 0

    class EW_OP_VALUE_1(Register, offset=0x4094):
        """EW register operand 1."""

        EW_OPERAND_1: int = bits(31, 0)  # used when EW_OP_SRC = 0

    class EW_OP_VALUE_2(Register, offset=0x4098):
        """EW register operand 2."""

        EW_OPERAND_2: int = bits(31, 0)  # used when EW_OP_SRC = 0

    class EW_OP_VALUE_3(Register, offset=0x409C):
        """EW register operand 3."""

        EW_OPERAND_3: int = bits(31, 0)  # used when EW_OP_SRC = 0

    class EW_OP_VALUE_4(Register, offset=0x40A0):
        """EW register operand 4."""

        EW_OPERAND_4: int = bits(31, 0)  # used when EW_OP_SRC = 0

    class EW_OP_VALUE_5(Register, offset=0x40A4):
        """EW register operand 5."""

        EW_OPERAND_5: int = bits(31, 0)  # used when EW_OP_SRC = 0

    class EW_OP_VALUE_6(Register, offset=0x40A8):
        """EW register operand 6."""

        EW_OPERAND_6: int = bits(31, 0)  # used when EW_OP_SRC = 0

    class EW_OP_VALUE_7(Register, offset=0x40AC):
        """EW register operand 7."""

        EW_OPERAND_7: int = bits(31, 0)  # used when EW_OP_SRC = 0

    class SURFACE_ADD(Register, offset=0x40C0):
        """Write-out."""

        # surfaces in a row: output pixels x 2 (direct) or x 4 (depthwise), in 16-byte units
        SURF_ADD: int = bits(31, 4)

    class UNKNOWN_40C4(Register, offset=0x40C4):
        """Absent from registers.xml and from the public manual; Mesa writes 0."""

    class LUT_ACCESS_CFG(Register, offset=0x4100):
        """Table access port."""

        LUT_ADDR: int = bits(9, 0)  # entry; increments by itself
        LUT_TABLE_ID: int = bits(16, 16)  # 0 = LE table, 1 = LO table
        LUT_ACCESS_TYPE: int = bits(17, 17)  # 0 read, 1 write

    class LUT_ACCESS_DATA(Register, offset=0x4104):
        """Table access port."""

        LUT_ACCESS_DATA: int = bits(15, 0)  # 16-bit entry

    class LUT_CFG(Register, offset=0x4108):
        """Table look-up control."""

        LUT_ROAD_SEL: int = bits(0, 0)  # path select
        LUT_EXPAND_EN: int = bits(1, 1)  # 1 = the two tables form one
        LUT_LO_LE_MUX: int = bits(3, 2)  # selection between the tables
        LUT_UFLOW_PRIORITY: int = bits(4, 4)  # table used on underflow: 0 LE, 1 LO
        LUT_OFLOW_PRIORITY: int = bits(5, 5)  # table used on overflow: 0 LE, 1 LO
        LUT_HYBRID_PRIORITY: int = bits(6, 6)  # 0 LE, 1 LO
        LUT_CAL_SEL: int = bits(7, 7)  # only with LUT_EXPAND_EN

    class LUT_INFO(Register, offset=0x410C):
        """Index generation."""

        LUT_LE_INDEX_SELECT: int = bits(15, 8)  # log2 of the LE step
        LUT_LO_INDEX_SELECT: int = bits(23, 16)  # log2 of the LO step

    class LUT_LE_START(Register, offset=0x4110):
        """LE table range."""

        LUT_LE_START: int = bits(31, 0)  # first input

    class LUT_LE_END(Register, offset=0x4114):
        """LE table range."""

        LUT_LE_END: int = bits(31, 0)  # last input

    class LUT_LO_START(Register, offset=0x4118):
        """LO table range."""

        LUT_LO_START: int = bits(31, 0)  # first input

    class LUT_LO_END(Register, offset=0x411C):
        """LO table range."""

        LUT_LO_END: int = bits(31, 0)  # last input

    class LUT_LE_SLOPE_SCALE(Register, offset=0x4120):
        """LE extrapolation slope."""

        LUT_LE_SLOPE_UFLOW_SCALE: int = bits(15, 0)  # below the range
        LUT_LE_SLOPE_OFLOW_SCALE: int = bits(31, 16)  # above the range

    class LUT_LE_SLOPE_SHIFT(Register, offset=0x4124):
        """LE extrapolation slope."""

        LUT_LE_SLOPE_UFLOW_SHIFT: int = bits(4, 0)  # below the range
        LUT_LE_SLOPE_OFLOW_SHIFT: int = bits(9, 5)  # above the range

    class LUT_LO_SLOPE_SCALE(Register, offset=0x4128):
        """LO extrapolation slope."""

        LUT_LO_SLOPE_UFLOW_SCALE: int = bits(15, 0)  # below the range
        LUT_LO_SLOPE_OFLOW_SCALE: int = bits(31, 16)  # above the range

    class LUT_LO_SLOPE_SHIFT(Register, offset=0x412C):
        """LO extrapolation slope."""

        LUT_LO_SLOPE_UFLOW_SHIFT: int = bits(4, 0)  # below the range
        LUT_LO_SLOPE_OFLOW_SHIFT: int = bits(9, 5)  # above the range
