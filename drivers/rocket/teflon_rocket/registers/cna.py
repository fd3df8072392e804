# Ref: docs/hardware/rocket_registers.json, docs/hardware/rocket.md §3
# Ref: docs/hardware/rocket_vendor.md §0, §1 (strides, dilation, DATA_ENTRIES)
# Ref: Mesa, src/gallium/drivers/rocket/registers.xml (names, offsets, bit positions)
# Ref: RK3588 TRM part 1, chapter 36 (meaning)
"""The registers of the CNA."""

from teflon_common.registers import Block, Register, bits
from teflon_rocket.registers.shared import Enable, Pointer, Status


class CNA(Block, target=0x0200):
    """Convolution neural accelerator: loads features and weights, converts and pads the input."""

    class S_STATUS(Status, offset=0x1000):
        """Read-only state of the two register groups (executers) of the block."""

    class S_POINTER(Pointer, offset=0x1004):
        """Selects and ping-pongs the two shadow register groups of the block; Mesa and the kernel
        write 0xE.
        """

    class OPERATION_ENABLE(Enable, offset=0x1008):
        """Starts the block; this register and every register behind it exist twice (ping-pong
        groups).
        """

    class CONV_CON1(Register, offset=0x100C):
        """Convolution mode."""

        CONV_MODE: int = bits(3, 0)  # 0 = direct convolution, 3 = depthwise
        IN_PRECISION: int = bits(6, 4)  # 0 int8, 1 int16, 2 fp16, 3 bf16, 6 int4, 7 tf32
        PROC_PRECISION: int = bits(9, 7)  # 0 int8, 1 int16, 2 fp16, 3 bf16, 6 int4, 7 tf32
        # few-channel input mode: 0 off, 8/9/10/11 = 1/2/3/4 channels interleaved (9 was not seen)
        ARGB_IN: int = bits(15, 12)
        DECONV: int = bits(16, 16)  # 1 = transposed convolution
        # 0 = fetch lines in groups (of 4), 1 = line by line; decides what DMA_CON1 and DMA_CON2
        # count
        GROUP_LINE_OFF: int = bits(29, 29)
        # 1 = fetch the feature bytes as one continuous stream (needed with ARGB_IN)
        NONALIGN_DMA: int = bits(30, 30)

    class CONV_CON2(Register, offset=0x1010):
        """Scheduling of the sequence controller."""

        CMD_FIFO_SRST: int = bits(0, 0)  # debug: reset the command FIFO
        CSC_DO_EN: int = bits(1, 1)  # 0 = data scan on
        CSC_WO_EN: int = bits(2, 2)  # 0 = weight scan on
        # feature rows to buffer before the convolution starts (documented suggestion: y stride +
        # kernel height + 1; Mesa: 50 + y stride + 1)
        FEATURE_GRAINS: int = bits(13, 4)
        # kernel groups (int8: 32 kernels form a group; 16-bit types: 16); Mesa leaves 0
        KERNEL_GROUP: int = bits(23, 16, minus=1)
        # cores that share the operation, each with a part of its own (the vendor's lists; inferred)
        CORES: int = bits(31, 28, minus=1)

    class CONV_CON3(Register, offset=0x1014):
        """Strides and dilation."""

        CONV_X_STRIDE: int = bits(2, 0)  # horizontal stride
        CONV_Y_STRIDE: int = bits(5, 3)  # vertical stride
        # transposed convolution: columns, rows of PAD_VALUE between those of the input: stride - 1
        DECONV_X_STRIDE: int = bits(10, 8)
        DECONV_Y_STRIDE: int = bits(13, 11)
        ATROUS_X_DILATION: int = bits(20, 16, minus=1)  # distance of the taps
        ATROUS_Y_DILATION: int = bits(25, 21, minus=1)  # distance of the taps
        NN_MODE: int = bits(30, 28)  # multi-core cooperation of the MAC arrays; 0 = single core

    class DATA_SIZE0(Register, offset=0x1020):
        """Size of the input cube the convolution sees; plain counts."""

        DATAIN_HEIGHT: int = bits(10, 0)  # height in rows
        DATAIN_WIDTH: int = bits(26, 16)  # width in pixels

    class DATA_SIZE1(Register, offset=0x1024):
        """Channels of the input cube."""

        # channel count padded to the atom (int8: 16), not minus 1
        DATAIN_CHANNEL: int = bits(15, 0)
        DATAIN_CHANNEL_REAL: int = bits(29, 16, minus=1)  # true channel count

    class DATA_SIZE2(Register, offset=0x1028):
        """Output width."""

        DATAOUT_WIDTH: int = bits(10, 0)  # width of the convolution result

    class DATA_SIZE3(Register, offset=0x102C):
        """Output size."""

        DATAOUT_ATOMICS: int = bits(21, 0)  # output pixels (width x height)
        SURF_MODE: int = bits(23, 22)  # 0/1 = one surface in series, 2 = two, 3 = four

    class WEIGHT_SIZE0(Register, offset=0x1030):
        """Weight bytes of the whole task."""

        WEIGHT_BYTES: int = bits(31, 0)  # bytes per kernel x kernels

    class WEIGHT_SIZE1(Register, offset=0x1034):
        """Weight bytes of one kernel."""

        # kernel width x height x padded channels; depthwise rows are 16, 32 or 64 bytes wide
        WEIGHT_BYTES_PER_KERNEL: int = bits(18, 0)

    class WEIGHT_SIZE2(Register, offset=0x1038):
        """Kernel geometry; plain counts."""

        WEIGHT_KERNELS: int = bits(13, 0)  # number of kernels (depthwise: 1)
        WEIGHT_HEIGHT: int = bits(20, 16)  # kernel height
        WEIGHT_WIDTH: int = bits(28, 24)  # kernel width

    class CBUF_CON0(Register, offset=0x1040):
        """Split of the convolution buffer; values are bank counts in Mesa."""

        DATA_BANK: int = bits(3, 0)  # banks for features
        WEIGHT_BANK: int = bits(7, 4)  # banks for weights
        FC_DATA_BANK: int = bits(10, 8)  # banks of zero-skip features; must stay 0 otherwise
        DATA_REUSE: int = bits(12, 12)  # 1 = features already in the buffer, do not fetch
        WEIGHT_REUSE: int = bits(13, 13)  # 1 = weights already in the buffer, do not fetch

    class CBUF_CON1(Register, offset=0x1044):
        """Buffer entries per feature row."""

        # 64-byte entries that one input row (all channels) takes; with ARGB_IN the 16-byte pixels
        # of all rows, each row rounded up to 16 pixels
        DATA_ENTRIES: int = bits(14, 0)

    class CVT_CON0(Register, offset=0x104C):
        """Input converter control."""

        CVT_BYPASS: int = bits(0, 0)  # 1 = converter off
        CVT_TYPE: int = bits(1, 1)  # 0 = multiply (and shift) then add, 1 = add then multiply
        ROUND_TYPE: int = bits(2, 2)  # 0 = ties to even, 1 = ties up
        DATA_SIGN: int = bits(3, 3)  # 1 = input bytes are signed
        CVT_TRUNCATE_0: int = bits(9, 4)  # right shift for 1st channel
        CVT_TRUNCATE_1: int = bits(15, 10)  # right shift for 2nd channel
        CVT_TRUNCATE_2: int = bits(21, 16)  # right shift for 3rd channel
        CVT_TRUNCATE_3: int = bits(27, 22)  # right shift for 4th channel

    class CVT_CON1(Register, offset=0x1050):
        """Input converter, channel 1."""

        CVT_OFFSET0: int = bits(15, 0, signed=True)  # offset
        CVT_SCALE0: int = bits(31, 16, signed=True)  # multiplier

    class CVT_CON2(Register, offset=0x1054):
        """Input converter, channel 2."""

        CVT_OFFSET1: int = bits(15, 0, signed=True)  # offset
        CVT_SCALE1: int = bits(31, 16, signed=True)  # multiplier

    class CVT_CON3(Register, offset=0x1058):
        """Input converter, channel 3."""

        CVT_OFFSET2: int = bits(15, 0, signed=True)  # offset
        CVT_SCALE2: int = bits(31, 16, signed=True)  # multiplier

    class CVT_CON4(Register, offset=0x105C):
        """Input converter, channel 4."""

        CVT_OFFSET3: int = bits(15, 0, signed=True)  # offset
        CVT_SCALE3: int = bits(31, 16, signed=True)  # multiplier

    class FC_CON0(Register, offset=0x1060):
        """Zero skipping for fully connected layers."""

        FC_SKIP_EN: int = bits(0, 0)  # enable
        FC_SKIP_DATA: int = bits(31, 16)  # feature value that is skipped

    class FC_CON1(Register, offset=0x1064):
        """Zero skipping."""

        DATA_OFFSET: int = bits(16, 0)  # feature offset

    class PAD_CON0(Register, offset=0x1068):
        """Padding before the input (right and bottom follow from the output size)."""

        PAD_TOP: int = bits(3, 0)  # rows
        PAD_LEFT: int = bits(7, 4)  # columns

    class FEATURE_DATA_ADDR(Register, offset=0x1070):
        """Address of the input features."""

        FEATURE_BASE_ADDR: int = bits(31, 0)  # device address

    class FC_CON2(Register, offset=0x1074):
        """Zero skipping."""

        WEIGHT_OFFSET: int = bits(16, 0)  # weight offset

    class DMA_CON0(Register, offset=0x1078):
        """CNA DMA bursts."""

        DATA_BURST_LEN: int = bits(3, 0)  # AXI burst code: 3 = 4 beats, 7 = 8 beats, 15 = 16 beats
        # AXI burst code: 3 = 4 beats, 7 = 8 beats, 15 = 16 beats
        WEIGHT_BURST_LEN: int = bits(19, 16)
        OV4K_BYPASS: int = bits(31, 31)  # 0 = split bursts that cross 4 KiB

    class DMA_CON1(Register, offset=0x107C):
        """Feature line stride."""

        # 16-byte units per group of 4 rows; with GROUP_LINE_OFF those of one row; with ARGB_IN
        # pixels of one row, which takes whole 16 pixels in memory
        LINE_STRIDE: int = bits(27, 0)

    class DMA_CON2(Register, offset=0x1080):
        """Feature surface stride."""

        # distance between channel surfaces in 16-byte units, minus LINE_STRIDE; with
        # GROUP_LINE_OFF minus the fetched width
        SURF_STRIDE: int = bits(27, 0, signed=True)

    class FC_DATA_SIZE0(Register, offset=0x1084):
        """Size of what the feature DMA fetches."""

        DMA_HEIGHT: int = bits(10, 0)  # rows
        DMA_WIDTH: int = bits(29, 16)  # pixels per row in memory

    class FC_DATA_SIZE1(Register, offset=0x1088):
        """Size of what the feature DMA fetches."""

        DMA_CHANNEL: int = bits(15, 0)  # padded channels

    class CLK_GATE(Register, offset=0x1090):
        """Clock gating, debug."""

        CNA_FEATURE_DISABLE_CLKGATE: int = bits(0, 0)  # 1 = feature loader clock always on
        CNA_WEIGHT_DISABLE_CLKGATE: int = bits(1, 1)  # 1 = weight loader clock always on
        CSC_DISABLE_CLKGATE: int = bits(2, 2)  # 1 = sequence controller clock always on
        CBUF_CS_DISABLE_CLKGATE: int = bits(4, 4)  # 1 = buffer clock always on

    class DCOMP_CTRL(Register, offset=0x1100):
        """Weight decompressor."""

        DECOMP_CONTROL: int = bits(2, 0)  # mode, 0 = plain weights
        WT_DEC_BYPASS: int = bits(3, 3)  # 1 = bypass

    class DCOMP_REGNUM(Register, offset=0x1104):
        """Weight decompressor."""

        DCOMP_REGNUM: int = bits(31, 0)  # number of decompression segments, 0 = plain

    class DCOMP_ADDR0(Register, offset=0x1110):
        """Address of the weights."""

        DECOMPRESS_ADDR0: int = bits(31, 0)  # device address (documented as 16-byte aligned)

    class DCOMP_AMOUNT0(Register, offset=0x1140):
        """Weight decompressor segment 0."""

        DCOMP_AMOUNT0: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT1(Register, offset=0x1144):
        """Weight decompressor segment 1."""

        DCOMP_AMOUNT1: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT2(Register, offset=0x1148):
        """Weight decompressor segment 2."""

        DCOMP_AMOUNT2: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT3(Register, offset=0x114C):
        """Weight decompressor segment 3."""

        DCOMP_AMOUNT3: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT4(Register, offset=0x1150):
        """Weight decompressor segment 4."""

        DCOMP_AMOUNT4: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT5(Register, offset=0x1154):
        """Weight decompressor segment 5."""

        DCOMP_AMOUNT5: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT6(Register, offset=0x1158):
        """Weight decompressor segment 6."""

        DCOMP_AMOUNT6: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT7(Register, offset=0x115C):
        """Weight decompressor segment 7."""

        DCOMP_AMOUNT7: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT8(Register, offset=0x1160):
        """Weight decompressor segment 8."""

        DCOMP_AMOUNT8: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT9(Register, offset=0x1164):
        """Weight decompressor segment 9."""

        DCOMP_AMOUNT9: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT10(Register, offset=0x1168):
        """Weight decompressor segment 10."""

        DCOMP_AMOUNT10: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT11(Register, offset=0x116C):
        """Weight decompressor segment 11."""

        DCOMP_AMOUNT11: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT12(Register, offset=0x1170):
        """Weight decompressor segment 12."""

        DCOMP_AMOUNT12: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT13(Register, offset=0x1174):
        """Weight decompressor segment 13."""

        DCOMP_AMOUNT13: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT14(Register, offset=0x1178):
        """Weight decompressor segment 14."""

        DCOMP_AMOUNT14: int = bits(31, 0)  # amount; 0 = plain weights

    class DCOMP_AMOUNT15(Register, offset=0x117C):
        """Weight decompressor segment 15."""

        DCOMP_AMOUNT15: int = bits(31, 0)  # amount; 0 = plain weights

    class CVT_CON5(Register, offset=0x1180):
        """Converter enable per channel lane."""

        PER_CHANNEL_CVT_EN: int = bits(31, 0)  # one bit per channel of a 16-byte atom

    class PAD_CON1(Register, offset=0x1184):
        """Value of padded input elements."""

        # in the domain of the stored (signed) input; behaves like a 16-bit pattern, two int8
        # lanes (inferred)
        PAD_VALUE: int = bits(31, 0)
