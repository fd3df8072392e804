# Ref: docs/hardware/rocket.md §4.2, §6.3, §7.3, §7.4, §8.2, §8.9
# Ref: docs/hardware/rocket_vendor.md finding 9 (dilation, deconvolution), §2 (Expand)
"""CNA: fetches features and weights, converts and pads the input."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_rocket.chips import Chip
from teflon_rocket.registers import CNA

from .cbuf import check_buffer
from .cube import Features, Weights, Window
from .features import plan_features
from .policy import Findings
from .registerfile import Fields, RegisterFile
from .weights import plan_weights

DEPTHWISE = 3

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
    features = plan_features(registers)
    weights = plan_weights(registers, chip, findings, con1.CONV_MODE == DEPTHWISE)
    window = _window(registers, weights)
    check_buffer(registers, chip, findings, weights, features, window)
    return CnaTask(
        features,
        window,
        weights,
        bool(registers[CNA.CBUF_CON0].WEIGHT_REUSE),
        registers[CNA.DATA_SIZE2].DATAOUT_WIDTH,
        registers[CNA.DATA_SIZE3].DATAOUT_ATOMICS,
    )


def _window(registers: RegisterFile, weights: Weights) -> Window:
    con3, pad = registers[CNA.CONV_CON3], registers[CNA.PAD_CON0]
    _check_deconvolution(registers)
    repeated = _is_repeated(registers)
    value = registers[CNA.PAD_CON1].PAD_VALUE
    low, high = (int(b) for b in np.array([value & 0xFF, value >> 8 & 0xFF], np.uint8).view("i1"))
    # One byte or two in direct mode is an open question; the low one gives right results.
    values = (low, high) if weights.depthwise else (low, low)
    return Window(
        weights.kernel,
        (1, 1) if repeated else (con3.CONV_Y_STRIDE, con3.CONV_X_STRIDE),
        (con3.ATROUS_Y_DILATION, con3.ATROUS_X_DILATION),
        (pad.PAD_TOP, pad.PAD_LEFT),
        values,
        (con3.DECONV_Y_STRIDE + 1, con3.DECONV_X_STRIDE + 1),
        repeated,
    )


def _is_repeated(registers: RegisterFile) -> bool:
    """Return whether the strides are 0, so that each window sees the same pixel."""
    con3, size, pad = registers[CNA.CONV_CON3], registers[CNA.DATA_SIZE0], registers[CNA.PAD_CON0]
    if con3.CONV_X_STRIDE and con3.CONV_Y_STRIDE:
        return False
    ones = (
        (size.DATAIN_WIDTH, size.DATAIN_HEIGHT),
        (registers[CNA.WEIGHT_SIZE2].WEIGHT_WIDTH, registers[CNA.WEIGHT_SIZE2].WEIGHT_HEIGHT),
    )
    sure = not (con3.CONV_X_STRIDE or con3.CONV_Y_STRIDE or registers[CNA.CONV_CON1].ARGB_IN)
    if not sure or ones != ((1, 1), (1, 1)) or pad.PAD_TOP or pad.PAD_LEFT:
        raise SimulatorFault(
            f"CNA.CONV_CON3: CONV_X_STRIDE is {con3.CONV_X_STRIDE}, CONV_Y_STRIDE"
            f" {con3.CONV_Y_STRIDE}, must not be 0, or both for an input of one pixel, a kernel of"
            " one tap and no padding"
        )
    return True


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


def seen(features: NDArray[np.int8], window: Window, height: int, width: int) -> NDArray[np.int8]:
    """Return features [surface, row, column, 16] as the windows of an output of a size see them.

    Those of a deconvolution are apart, with pad values between them; what no window reaches is cut
    off.
    """
    surfaces, rows, columns, lanes = features.shape
    if window.repeated:
        return np.broadcast_to(features, (surfaces, height, width, lanes)).copy()
    if window.spread == (1, 1):
        return features
    reach = [
        max(out + kernel - 1 - pad, 1)
        for out, kernel, pad in zip((height, width), window.kernel, window.pad, strict=True)
    ]
    high, wide = map(min, reach, window.spans((rows, columns)))
    out = np.empty((surfaces, high, wide, lanes), np.int8)
    out[...] = np.tile(np.array(window.pad_values, np.int8), lanes // 2)
    down, across = window.spread
    out[:, ::down, ::across] = features[:, : -(-high // down), : -(-wide // across)]
    return out
