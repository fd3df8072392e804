# Ref: docs/hardware/rocket.md §4.3 (order in memory)
# Ref: docs/hardware/rocket_vendor.md finding 4, §1 "Weight row widths" (depthwise rows of 16, 32 or
# Ref: 64 bytes; an even number of kernels)
"""Weights: how the registers declare them, and how they lie in memory."""

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_rocket.chips import Chip
from teflon_rocket.registers import CNA

from .cube import Weights, aligned
from .policy import Breach, Findings
from .registerfile import RegisterFile


def plan_weights(
    registers: RegisterFile, chip: Chip, findings: Findings, depthwise: bool
) -> Weights:
    """Read where the weights lie. Raises SimulatorFault, or notes a breach, for wrong sizes."""
    size = registers[CNA.WEIGHT_SIZE2]
    channels = registers[CNA.DATA_SIZE1].DATAIN_CHANNEL
    if 0 in (size.WEIGHT_KERNELS, size.WEIGHT_HEIGHT, size.WEIGHT_WIDTH):
        raise SimulatorFault(f"{size}: no size may be 0")
    if depthwise and size.WEIGHT_KERNELS != 1:
        raise SimulatorFault(
            f"CNA.WEIGHT_SIZE2: WEIGHT_KERNELS is {size.WEIGHT_KERNELS}, must be 1 (depthwise)"
        )
    if not depthwise and size.WEIGHT_KERNELS % 2:
        raise SimulatorFault(
            f"CNA.WEIGHT_SIZE2: WEIGHT_KERNELS is {size.WEIGHT_KERNELS}, must be even (a kernel of"
            " zeros behind an odd last one)"
        )
    tail = _tail(channels, chip, depthwise)
    _check_bytes(registers, chip, findings, depthwise, tail)
    address = registers[CNA.DCOMP_ADDR0].DECOMPRESS_ADDR0
    aligned(address, CNA.DCOMP_ADDR0.title())
    return Weights(
        address,
        registers[CNA.WEIGHT_SIZE0].WEIGHT_BYTES,
        size.WEIGHT_KERNELS,
        (size.WEIGHT_HEIGHT, size.WEIGHT_WIDTH),
        channels,
        tail,
        depthwise,
    )


def _group(chip: Chip, depthwise: bool) -> int:
    """Return the channels of a row that is full."""
    return chip.depthwise_channels if depthwise else chip.weight_channels


def _tail(channels: int, chip: Chip, depthwise: bool) -> int:
    """Return the bytes of the rows of the last channel group; 0 where all rows are full."""
    rest = channels % _group(chip, depthwise)
    if not depthwise or rest == 0:
        return rest
    return min(row for row in chip.depthwise_rows if row >= rest)


def _check_bytes(
    registers: RegisterFile, chip: Chip, findings: Findings, depthwise: bool, tail: int
) -> None:
    """Check that both sizes in bytes are what kernels of that shape have."""
    size = registers[CNA.WEIGHT_SIZE2]
    total, one = registers[CNA.WEIGHT_SIZE0], registers[CNA.WEIGHT_SIZE1]
    taps = size.WEIGHT_HEIGHT * size.WEIGHT_WIDTH
    channels = registers[CNA.DATA_SIZE1].DATAIN_CHANNEL
    each = taps * (channels - channels % _group(chip, depthwise) + tail)
    tight = taps * channels
    if depthwise and one.WEIGHT_BYTES_PER_KERNEL == total.WEIGHT_BYTES == tight != each:
        findings.breach(
            Breach.DEPTHWISE_ROWS,
            f"{total}: must be {each} for {channels} channels: depthwise rows are"
            f" {', '.join(map(str, chip.depthwise_rows))} bytes wide",
        )
        return
    if each != one.WEIGHT_BYTES_PER_KERNEL:
        raise SimulatorFault(f"{one}: must be {each} for {size}")
    if each * size.WEIGHT_KERNELS != total.WEIGHT_BYTES:
        raise SimulatorFault(f"{total}: must be {each * size.WEIGHT_KERNELS} for {size}")


def fetch_weights(weights: Weights, chip: Chip, raw: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return weights int8 [kernel row, kernel column, channel, kernel] of their bytes in memory.

    In memory: kernel group, channel group, kernel row, kernel column, kernel, channel. Where fewer
    bytes are declared than the rows need, the rest is 0.
    """
    row = _group(chip, weights.depthwise)
    whole = weights.channels - weights.channels % row
    taps = weights.kernel[0] * weights.kernel[1]
    each = taps * (whole + weights.tail)
    missing = max(each * weights.kernels - len(raw), 0)
    data = np.pad(raw, (0, missing)).view(np.int8) if missing else raw.view(np.int8)
    out = np.empty((*weights.kernel, weights.channels, weights.kernels), np.int8)
    at = 0
    for first in range(0, weights.kernels, chip.kernel_group):
        kernels = min(chip.kernel_group, weights.kernels - first)
        group = data[at : at + each * kernels]
        _fetch_group(group, out[..., first : first + kernels], row, weights.tail)
        at += each * kernels
    return out


def _fetch_group(raw: NDArray[np.int8], out: NDArray[np.int8], row: int, tail: int) -> None:
    """Copy one kernel group to its place in out [kernel row, kernel column, channel, kernel]."""
    height, width, channels, kernels = out.shape
    whole = channels - channels % row
    split = height * width * whole * kernels
    if whole:
        full = raw[:split].reshape(-1, height, width, kernels, row)
        moved = full.transpose(1, 2, 0, 4, 3)
        out[:, :, :whole] = moved.reshape(height, width, whole, kernels)
    if tail:
        last = raw[split:].reshape(height, width, kernels, tail)[..., : channels - whole]
        out[:, :, whole:] = last.transpose(0, 1, 3, 2)
