# Ref: docs/hardware/rocket.md §4.2, §6.3, §7.3, §7.4, §8.2, §8.9
# Ref: docs/hardware/rocket_vendor.md finding 9 (dilation, deconvolution)
"""CNA: fetches features and weights, converts and pads the input."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.chips import Chip
from teflon_rocket.registers import CNA

from .cbuf import check_buffer
from .cube import ATOM, Converter, Features, Weights, Window, aligned
from .policy import Findings
from .registerfile import Fields, RegisterFile
from .rounding import round_shift
from .weights import plan_weights

DEPTHWISE = 3
_ARGB_ONE = 8
"""ARGB_IN of one interleaved channel; 9, 10, 11 are two, three and four."""

FIELDS: Fields = {
    CNA.CONV_CON1: "CONV_MODE ARGB_IN DECONV GROUP_LINE_OFF NONALIGN_DMA",
    CNA.CONV_CON3: "CONV_X_STRIDE CONV_Y_STRIDE DECONV_X_STRIDE DECONV_Y_STRIDE"
    " ATROUS_X_DILATION ATROUS_Y_DILATION",
    CNA.DATA_SIZE0: "DATAIN_HEIGHT DATAIN_WIDTH",
    CNA.DATA_SIZE1: "DATAIN_CHANNEL DATAIN_CHANNEL_REAL",
    CNA.DATA_SIZE2: "DATAOUT_WIDTH",
    CNA.DATA_SIZE3: "DATAOUT_ATOMICS",
    CNA.WEIGHT_SIZE0: "WEIGHT_BYTES",
    CNA.WEIGHT_SIZE1: "WEIGHT_BYTES_PER_KERNEL",
    CNA.WEIGHT_SIZE2: "WEIGHT_KERNELS WEIGHT_HEIGHT WEIGHT_WIDTH",
    CNA.CBUF_CON0: "DATA_BANK WEIGHT_BANK WEIGHT_REUSE",
    CNA.CBUF_CON1: "DATA_ENTRIES",
    CNA.CVT_CON0: "CVT_BYPASS CVT_TYPE ROUND_TYPE DATA_SIGN CVT_TRUNCATE_0 CVT_TRUNCATE_1"
    " CVT_TRUNCATE_2 CVT_TRUNCATE_3",
    CNA.CVT_CON1: "CVT_OFFSET0 CVT_SCALE0",
    CNA.CVT_CON2: "CVT_OFFSET1 CVT_SCALE1",
    CNA.CVT_CON3: "CVT_OFFSET2 CVT_SCALE2",
    CNA.CVT_CON4: "CVT_OFFSET3 CVT_SCALE3",
    CNA.CVT_CON5: "PER_CHANNEL_CVT_EN",
    CNA.FC_CON0: "",
    CNA.FC_CON1: "",
    CNA.FC_CON2: "",
    CNA.PAD_CON0: "PAD_TOP PAD_LEFT",
    CNA.PAD_CON1: "PAD_VALUE",
    CNA.FEATURE_DATA_ADDR: "FEATURE_BASE_ADDR",
    CNA.DMA_CON0: "DATA_BURST_LEN WEIGHT_BURST_LEN",  # speed only
    CNA.DMA_CON1: "LINE_STRIDE",
    CNA.DMA_CON2: "SURF_STRIDE",
    CNA.FC_DATA_SIZE0: "DMA_HEIGHT DMA_WIDTH",
    CNA.FC_DATA_SIZE1: "DMA_CHANNEL",
    CNA.DCOMP_CTRL: "",
    CNA.DCOMP_REGNUM: "",
    CNA.DCOMP_ADDR0: "DECOMPRESS_ADDR0",
}


@dataclass(frozen=True)
class CnaTask:
    """What the CNA does in one task."""

    features: Features
    window: Window
    weights: Weights
    reuse: bool
    out_width: int
    out_pixels: int


def plan(registers: RegisterFile, chip: Chip, findings: Findings) -> CnaTask:
    """Read the CNA's registers; raises SimulatorFault for what is wrong or not modelled."""
    con1 = registers[CNA.CONV_CON1]
    if con1.CONV_MODE not in (0, DEPTHWISE):
        raise SimulatorFault(f"CNA.CONV_CON1: CONV_MODE {con1.CONV_MODE} is not modelled")
    features = _features(registers)
    weights = plan_weights(registers, chip, findings, con1.CONV_MODE == DEPTHWISE)
    window = _window(registers, weights)
    check_buffer(registers, chip, findings, weights, features)
    return CnaTask(
        features,
        window,
        weights,
        bool(registers[CNA.CBUF_CON0].WEIGHT_REUSE),
        registers[CNA.DATA_SIZE2].DATAOUT_WIDTH,
        registers[CNA.DATA_SIZE3].DATAOUT_ATOMICS,
    )


def _features(registers: RegisterFile) -> Features:
    con1 = registers[CNA.CONV_CON1]
    channels = registers[CNA.DATA_SIZE1].DATAIN_CHANNEL
    dma = registers[CNA.FC_DATA_SIZE0]
    line = registers[CNA.DMA_CON1].LINE_STRIDE
    surface = line + registers[CNA.DMA_CON2].SURF_STRIDE
    address = registers[CNA.FEATURE_DATA_ADDR].FEATURE_BASE_ADDR
    interleaved = con1.ARGB_IN - _ARGB_ONE + 1
    if con1.ARGB_IN and not 1 <= interleaved <= 4:
        raise SimulatorFault(f"CNA.CONV_CON1: ARGB_IN is {con1.ARGB_IN}, must be 0 or 8 to 11")
    _check_sizes(registers)
    if con1.ARGB_IN == 0:
        _check_normal_fetch(registers)
        aligned(address, CNA.FEATURE_DATA_ADDR.title())
        return Features(
            address, dma.DMA_HEIGHT, dma.DMA_WIDTH, channels, 4 * line, 16 * surface, 0, None
        )
    if not con1.NONALIGN_DMA or not con1.GROUP_LINE_OFF:
        raise SimulatorFault(
            "CNA.CONV_CON1: ARGB_IN needs NONALIGN_DMA and GROUP_LINE_OFF, must both be 1"
        )
    if channels != ATOM:
        raise SimulatorFault(
            f"CNA.DATA_SIZE1: DATAIN_CHANNEL is {channels} with ARGB_IN, must be {ATOM}"
        )
    return Features(
        address,
        dma.DMA_HEIGHT,
        dma.DMA_WIDTH,
        channels,
        line,
        0,
        interleaved,
        _converter(registers, interleaved),
    )


def _check_sizes(registers: RegisterFile) -> None:
    size, dma = registers[CNA.DATA_SIZE0], registers[CNA.FC_DATA_SIZE0]
    channel = registers[CNA.DATA_SIZE1]
    if channel.DATAIN_CHANNEL % ATOM or channel.DATAIN_CHANNEL == 0:
        raise SimulatorFault(
            f"CNA.DATA_SIZE1: DATAIN_CHANNEL is {channel.DATAIN_CHANNEL}, must be a multiple of 16"
        )
    if channel.DATAIN_CHANNEL_REAL > channel.DATAIN_CHANNEL:
        raise SimulatorFault(
            f"CNA.DATA_SIZE1: DATAIN_CHANNEL_REAL is {channel.DATAIN_CHANNEL_REAL}, must be at"
            f" most DATAIN_CHANNEL {channel.DATAIN_CHANNEL}"
        )
    if registers[CNA.FC_DATA_SIZE1].DMA_CHANNEL != channel.DATAIN_CHANNEL:
        raise SimulatorFault(
            f"CNA.FC_DATA_SIZE1: DMA_CHANNEL is {registers[CNA.FC_DATA_SIZE1].DMA_CHANNEL}, must be"
            f" DATAIN_CHANNEL {channel.DATAIN_CHANNEL}"
        )
    if size.DATAIN_HEIGHT != dma.DMA_HEIGHT or size.DATAIN_HEIGHT == 0:
        raise SimulatorFault(
            f"CNA.DATA_SIZE0: DATAIN_HEIGHT is {size.DATAIN_HEIGHT}, must be DMA_HEIGHT"
            f" {dma.DMA_HEIGHT} and not 0"
        )
    allowed = {dma.DMA_WIDTH}
    if registers[CNA.CONV_CON1].ARGB_IN:
        allowed = {max(dma.DMA_WIDTH, ATOM)}
    elif dma.DMA_WIDTH == 8:
        allowed.add(16)  # Mesa doubles width 8 around additions; the real width is DMA_WIDTH
    if size.DATAIN_WIDTH not in allowed or dma.DMA_WIDTH == 0:
        raise SimulatorFault(
            f"CNA.DATA_SIZE0: DATAIN_WIDTH is {size.DATAIN_WIDTH} with DMA_WIDTH {dma.DMA_WIDTH},"
            f" must be {' or '.join(map(str, sorted(allowed)))} and not 0"
        )


def _check_normal_fetch(registers: RegisterFile) -> None:
    con1, cvt = registers[CNA.CONV_CON1], registers[CNA.CVT_CON0]
    if con1.GROUP_LINE_OFF or con1.NONALIGN_DMA:
        raise SimulatorFault(
            "CNA.CONV_CON1: GROUP_LINE_OFF and NONALIGN_DMA without ARGB_IN are not modelled"
        )
    if not cvt.CVT_BYPASS or not cvt.DATA_SIGN:
        raise SimulatorFault(
            f"CNA.CVT_CON0: CVT_BYPASS {cvt.CVT_BYPASS}, DATA_SIGN {cvt.DATA_SIGN} without ARGB_IN,"
            " must both be 1 (others are not modelled)"
        )
    if registers[CNA.CVT_CON5].PER_CHANNEL_CVT_EN:
        raise SimulatorFault(
            "CNA.CVT_CON5: PER_CHANNEL_CVT_EN without ARGB_IN is not modelled, must be 0"
        )


def _converter(registers: RegisterFile, count: int) -> Converter | None:
    control = registers[CNA.CVT_CON0]
    if control.CVT_BYPASS:
        if not control.DATA_SIGN:
            raise SimulatorFault(
                "CNA.CVT_CON0: CVT_BYPASS with DATA_SIGN 0: unsigned bytes do not fit int8"
            )
        return None
    enabled = registers[CNA.CVT_CON5].PER_CHANNEL_CVT_EN
    if enabled & 0xFFFF != 0xFFFF:
        raise SimulatorFault(
            f"CNA.CVT_CON5: PER_CHANNEL_CVT_EN is #{enabled:x}, must be #ffff (others are not"
            " modelled)"
        )
    one, two = registers[CNA.CVT_CON1], registers[CNA.CVT_CON2]
    three, four = registers[CNA.CVT_CON3], registers[CNA.CVT_CON4]
    scale = (one.CVT_SCALE0, two.CVT_SCALE1, three.CVT_SCALE2, four.CVT_SCALE3)
    offset = (one.CVT_OFFSET0, two.CVT_OFFSET1, three.CVT_OFFSET2, four.CVT_OFFSET3)
    truncate = (
        control.CVT_TRUNCATE_0,
        control.CVT_TRUNCATE_1,
        control.CVT_TRUNCATE_2,
        control.CVT_TRUNCATE_3,
    )
    return Converter(
        bool(control.CVT_TYPE),
        bool(control.ROUND_TYPE),
        bool(control.DATA_SIGN),
        scale[:count],
        offset[:count],
        truncate[:count],
    )


def _window(registers: RegisterFile, weights: Weights) -> Window:
    con3, pad = registers[CNA.CONV_CON3], registers[CNA.PAD_CON0]
    if 0 in (con3.CONV_X_STRIDE, con3.CONV_Y_STRIDE):
        raise SimulatorFault(f"{con3}: no stride may be 0")
    _check_deconvolution(registers)
    value = registers[CNA.PAD_CON1].PAD_VALUE
    low, high = (int(b) for b in np.array([value & 0xFF, value >> 8 & 0xFF], np.uint8).view("i1"))
    # One byte or two in direct mode is an open question; the low one gives right results.
    values = (low, high) if weights.depthwise else (low, low)
    return Window(
        weights.kernel,
        (con3.CONV_Y_STRIDE, con3.CONV_X_STRIDE),
        (con3.ATROUS_Y_DILATION, con3.ATROUS_X_DILATION),
        (pad.PAD_TOP, pad.PAD_LEFT),
        values,
        (con3.DECONV_Y_STRIDE + 1, con3.DECONV_X_STRIDE + 1),
    )


def _check_deconvolution(registers: RegisterFile) -> None:
    """Raise SimulatorFault unless a deconvolution has no stride or dilation of another kind."""
    con1, con3 = registers[CNA.CONV_CON1], registers[CNA.CONV_CON3]
    if not con1.DECONV:
        if con3.DECONV_X_STRIDE or con3.DECONV_Y_STRIDE:
            raise SimulatorFault(f"{con3}: DECONV strides without CONV_CON1.DECONV, must be 0")
        return
    strides = con3.CONV_X_STRIDE, con3.CONV_Y_STRIDE
    dilations = con3.ATROUS_X_DILATION, con3.ATROUS_Y_DILATION
    if strides != (1, 1) or dilations != (1, 1):
        raise SimulatorFault(
            f"{con3}: strides {strides} and dilations {dilations} with CONV_CON1.DECONV, must all"
            " be 1 (others are not modelled)"
        )
    if con1.ARGB_IN:
        raise SimulatorFault(
            f"CNA.CONV_CON1: ARGB_IN is {con1.ARGB_IN} with DECONV, must be 0 (not modelled)"
        )


def spread(features: NDArray[np.int8], window: Window) -> NDArray[np.int8]:
    """Return features [surface, row, column, 16] as a deconvolution sees them: rows and columns
    apart, pad values between them.
    """
    if window.spread == (1, 1):
        return features
    surfaces, rows, columns, lanes = features.shape
    out = np.empty((surfaces, *window.spans((rows, columns)), lanes), np.int8)
    out[...] = np.tile(np.array(window.pad_values, np.int8), lanes // 2)
    out[:, :: window.spread[0], :: window.spread[1]] = features
    return out


def fetch_features(features: Features, memory: DeviceMemory) -> NDArray[np.int8]:
    """Return int8 [surface, row, column, 16]: a view of memory, or a converted copy."""
    if not features.interleaved:
        return memory.strided(
            features.address,
            (features.channels // ATOM, features.rows, features.width, ATOM),
            (features.surface_bytes, features.row_bytes, ATOM, 1),
            np.int8,
            "CNA.FEATURE_DATA_ADDR",
        )
    count = features.interleaved
    pixels = memory.strided(
        features.address,
        (features.rows, features.width, count),
        (features.row_bytes, count, 1),
        np.uint8,
        "CNA.FEATURE_DATA_ADDR",
    )
    out = np.zeros((1, features.rows, features.width, ATOM), np.int8)
    if features.converter is None:
        out[0, :, :, :count] = pixels.astype(np.int8)
    else:
        out[0, :, :, :count] = convert(pixels, features.converter)
    return out


def convert(pixels: NDArray[np.uint8], converter: Converter) -> NDArray[np.int8]:
    """Return what the input converter makes of bytes [..., channel]."""
    x = pixels.astype(np.int8).astype(np.int64) if converter.signed else pixels.astype(np.int64)
    out = np.empty(x.shape, np.int8)
    for n, (scale, offset, shift) in enumerate(
        zip(converter.scale, converter.offset, converter.truncate, strict=True)
    ):
        channel = x[..., n]
        if converter.add_first:
            value = round_shift((channel + offset) * scale, shift, converter.ties_up)
        else:
            value = round_shift(channel * scale, shift, converter.ties_up) + offset
        out[..., n] = np.clip(value, -128, 127)
    return out
