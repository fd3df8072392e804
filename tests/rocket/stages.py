# Ref: docs/hardware/rocket_vendor.md §0.3, §2 (elementwise, numeric checks of EW)
"""A small model of the DPU's stages that is driven by the registers of a pass: bytes to bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from teflon_common.registers import Register
from teflon_rocket.operations.passes import Pass
from teflon_rocket.registers import DPU, WRITE
from tests.rocket.words import ours

Ints = NDArray[np.int64]


class Registers:
    """What a pass writes to the DPU."""

    def __init__(self, operation: Pass) -> None:
        self._values = {(t, offset): value for t, offset, value in ours(operation)}

    def __getitem__(self, register: type[Register]) -> Any:
        return register.unpack(self._values[register.block.target + WRITE, register.offset])


def signed(value: int) -> int:
    return (value + 0x8000 & 0xFFFF) - 0x8000


def shifted(value: Ints, shift: int) -> Ints:
    """Divided by 2^shift and rounded, ties to even."""
    if not shift:
        return value
    low, rest = value >> shift, value & (1 << shift) - 1
    half = 1 << shift - 1
    up: Ints = low + ((rest > half) | ((rest == half) & (low & 1 == 1)))
    return up


def fits(value: Ints) -> Ints:
    assert np.abs(value).max() < 1 << 31, "values between the stages must fit 32 bits"
    return value


def scaled(value: Ints, factor: int, shift: int, below: int, prelu: bool) -> Ints:
    product = np.where(value < 0, value * factor, value) if prelu else value * factor
    return np.where(value < 0, shifted(product, below), shifted(product, shift))


def limited(value: Ints, config: Any, name: str, ceiling: int) -> Ints:
    if getattr(config, f"{name}_RELU_BYPASS"):
        assert not getattr(config, f"{name}_RELUX_EN")
        return value
    value = np.maximum(value, 0)
    return np.minimum(value, ceiling) if getattr(config, f"{name}_RELUX_EN") else value


def bs(r: Registers, value: Ints) -> Ints:
    config, mul = r[DPU.BS_CFG], r[DPU.BS_MUL_CFG]
    if config.BS_BYPASS:
        return value
    if not config.BS_ALU_BYPASS:
        value = fits(value + r[DPU.BS_ALU_CFG].BS_ALU_OPERAND)
    if not config.BS_MUL_BYPASS:
        below = r[DPU.DATA_FORMAT].BS_MUL_SHIFT_VALUE_NEG
        assert not config.BS_MUL_PRELU
        value = scaled(value, mul.BS_MUL_OPERAND, mul.BS_MUL_SHIFT_VALUE, below, False)
    return fits(limited(value, config, "BS", r[DPU.BS_RELUX_CMP_VALUE].BS_RELUX_CMP_DAT))


def bn(r: Registers, value: Ints) -> Ints:
    config, mul = r[DPU.BN_CFG], r[DPU.BN_MUL_CFG]
    if config.BN_BYPASS:
        return value
    below, prelu = r[DPU.DATA_FORMAT].BN_MUL_SHIFT_VALUE_NEG, bool(config.BN_MUL_PRELU)
    if not config.BN_MUL_BYPASS:
        assert config.BN_ALU_BYPASS
        value = scaled(value, mul.BN_MUL_OPERAND, mul.BN_MUL_SHIFT_VALUE, below, prelu)
    if not config.BN_ALU_BYPASS:
        value = fits(value + r[DPU.BN_ALU_CFG].BN_ALU_OPERAND)
    return fits(limited(value, config, "BN", r[DPU.BN_RELUX_CMP_VALUE].BN_RELUX_CMP_DAT))


def ew(r: Registers, value: Ints, other: Ints) -> Ints:
    config, converter = r[DPU.EW_CFG], r[DPU.EW_CVT_SCALE_VALUE]
    if config.EW_BYPASS:
        return value
    assert (config.EW_CVT_TYPE, config.EW_OP_SRC, config.EW_OP_CVT_BYPASS) == (1, 1, 0)
    centred = other + r[DPU.EW_CVT_OFFSET_VALUE].EW_OP_CVT_OFFSET
    product = fits(centred * signed(converter.EW_OP_CVT_SCALE))
    operand = shifted(product, converter.EW_OP_CVT_SHIFT)
    if config.EW_OP_TYPE:
        value = value * operand
    else:
        value = {0: np.maximum, 2: np.add}[config.EW_ALU_ALGO](value, operand)
    return limited(fits(value), config, "EW", 0)


def passed(operation: Pass, value: Ints, other: Ints | None = None) -> Ints:
    """Return the bytes that a pass makes of bytes, -128 to 127."""
    r = Registers(operation)
    value = bn(r, bs(r, value))
    if other is not None:
        value = ew(r, *np.broadcast_arrays(value, other))
    scale = signed(r[DPU.OUT_CVT_SCALE].OUT_CVT_SCALE)
    value = shifted(value * scale, r[DPU.OUT_CVT_SHIFT].OUT_CVT_SHIFT)
    out: Ints = np.clip(value + r[DPU.OUT_CVT_OFFSET].OUT_CVT_OFFSET, -128, 127)
    return out
