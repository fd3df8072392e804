# Ref: docs/hardware/rocket.md §4.2 (strides), §7.3 (converter), §8.2 (fetch), §8.9
# Ref: docs/hardware/rocket_vendor.md §1 "few input channels" and the corrections to it, §2 "Conv
# Ref: input as a sub-rectangle"
"""Features: how the registers declare the input, and how it is fetched and converted."""

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.registers import CNA

from .cube import ATOM, Converter, Features, aligned
from .registerfile import RegisterFile
from .rounding import round_shift

_ARGB_ONE = 8
"""ARGB_IN of one interleaved channel; 9, 10, 11 are two, three and four."""


def plan_features(registers: RegisterFile) -> Features:
    """Read where the input lies; raises SimulatorFault for what is wrong or not modelled."""
    con1 = registers[CNA.CONV_CON1]
    interleaved = con1.ARGB_IN - _ARGB_ONE + 1
    if con1.ARGB_IN and not 1 <= interleaved <= 4:
        raise SimulatorFault(f"CNA.CONV_CON1: ARGB_IN is {con1.ARGB_IN}, must be 0 or 8 to 11")
    _check_sizes(registers)
    return _pixels(registers, interleaved) if con1.ARGB_IN else _surfaces(registers)


def _surfaces(registers: RegisterFile) -> Features:
    """Return an input of 16-byte atoms; strides count atoms, without groups those of one row."""
    _check_normal_fetch(registers)
    dma = registers[CNA.FC_DATA_SIZE0]
    address = registers[CNA.FEATURE_DATA_ADDR].FEATURE_BASE_ADDR
    aligned(address, CNA.FEATURE_DATA_ADDR.title())
    line, rest = registers[CNA.DMA_CON1].LINE_STRIDE, registers[CNA.DMA_CON2].SURF_STRIDE
    if registers[CNA.CONV_CON1].GROUP_LINE_OFF:
        row, surface = ATOM * line, ATOM * (rest + dma.DMA_WIDTH)
    else:
        if line != 4 * dma.DMA_WIDTH:
            raise SimulatorFault(
                f"CNA.DMA_CON1: LINE_STRIDE is {line}, must be {4 * dma.DMA_WIDTH}: four rows of"
                f" {dma.DMA_WIDTH} pixels are fetched as one (GROUP_LINE_OFF reads rows apart)"
            )
        row, surface = ATOM * dma.DMA_WIDTH, ATOM * (rest + line)
    return Features(
        address,
        dma.DMA_HEIGHT,
        dma.DMA_WIDTH,
        registers[CNA.DATA_SIZE1].DATAIN_CHANNEL,
        row,
        surface,
        0,
        None,
    )


def _pixels(registers: RegisterFile, interleaved: int) -> Features:
    """Return an input of a few interleaved channels; its rows are whole 16 pixels apart."""
    con1, dma = registers[CNA.CONV_CON1], registers[CNA.FC_DATA_SIZE0]
    channels, line = registers[CNA.DATA_SIZE1].DATAIN_CHANNEL, registers[CNA.DMA_CON1].LINE_STRIDE
    if not con1.NONALIGN_DMA or not con1.GROUP_LINE_OFF:
        raise SimulatorFault(
            "CNA.CONV_CON1: ARGB_IN needs NONALIGN_DMA and GROUP_LINE_OFF, must both be 1"
        )
    if channels != ATOM:
        raise SimulatorFault(
            f"CNA.DATA_SIZE1: DATAIN_CHANNEL is {channels} with ARGB_IN, must be {ATOM}"
        )
    address = registers[CNA.FEATURE_DATA_ADDR].FEATURE_BASE_ADDR
    aligned(address, CNA.FEATURE_DATA_ADDR.title())
    return Features(
        address,
        dma.DMA_HEIGHT,
        dma.DMA_WIDTH,
        channels,
        whole_pixels(line) * interleaved,
        0,
        interleaved,
        _converter(registers, interleaved),
    )


def whole_pixels(count: int) -> int:
    """Return how many pixels of a few channels a row of so many takes: a multiple of 16."""
    return -(-count // ATOM) * ATOM


def _check_sizes(registers: RegisterFile) -> None:
    size, dma = registers[CNA.DATA_SIZE0], registers[CNA.FC_DATA_SIZE0]
    channel, con1 = registers[CNA.DATA_SIZE1], registers[CNA.CONV_CON1]
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
    if con1.ARGB_IN:
        allowed.add(max(dma.DMA_WIDTH, ATOM))  # Mesa declares 16 for less; the vendor does not
    elif dma.DMA_WIDTH == 8 and not con1.GROUP_LINE_OFF:
        allowed.add(16)  # Mesa doubles width 8 around additions; the real width is DMA_WIDTH
    if size.DATAIN_WIDTH not in allowed or dma.DMA_WIDTH == 0:
        raise SimulatorFault(
            f"CNA.DATA_SIZE0: DATAIN_WIDTH is {size.DATAIN_WIDTH} with DMA_WIDTH {dma.DMA_WIDTH},"
            f" must be {' or '.join(map(str, sorted(allowed)))} and not 0"
        )


def _check_normal_fetch(registers: RegisterFile) -> None:
    con1, cvt = registers[CNA.CONV_CON1], registers[CNA.CVT_CON0]
    if con1.NONALIGN_DMA:
        raise SimulatorFault("CNA.CONV_CON1: NONALIGN_DMA without ARGB_IN is not modelled")
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
