# Ref: docs/hardware/rocket.md §8.4, §8.6
# Ref: docs/hardware/rocket_vendor.md §0 (3: the order within BS and BN), §1 (pipeline model)
"""The DPU's arithmetic: from accumulators to int8, in 64 bits and in every mode."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault

from .cube import ATOM
from .dpu import DpuTask
from .operands import ChannelOperands
from .rounding import round_shift, signed_shift
from .stages import Elementwise, Output, Scale, Stage
from .tables import Tables

INT32 = (1 << 31) - 1
_ALGORITHMS = {
    "add": np.add,
    "subtract": np.subtract,
    "max": np.maximum,
    "min": np.minimum,
    "multiply": np.multiply,
}


class Clip(Protocol):
    """How the CORE shortens accumulators."""

    @property
    def truncate(self) -> int: ...

    @property
    def ties_up(self) -> bool: ...


@dataclass(frozen=True)
class NoClip:
    """Values that no CORE has made."""

    truncate: int = 0
    ties_up: bool = False


@dataclass(frozen=True)
class Arithmetic:
    """All that happens in one task from accumulator to int8, with the operands per channel.

    tables: of the core; needed where the task looks values up.
    """

    core: Clip
    dpu: DpuTask
    operands: ChannelOperands
    tables: Tables | None = None


def need_tables(task: DpuTask, tables: Tables | None) -> Tables | None:
    """Return the tables that a task uses, None where it uses none; SimulatorFault if not loaded."""
    if task.lut is None:
        return None
    if tables is None:
        raise SimulatorFault(
            "DPU.EW_CFG: EW_LUT_BYPASS is 0, but no list on this core has loaded the tables"
            " (LUT_ACCESS_CFG, LUT_ACCESS_DATA), must be loaded before"
        )
    return tables


def fits(v: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return values between stages; raises SimulatorFault where one has left 32 bits."""
    if v.size:
        reached = max(-int(v.min()), int(v.max()))
        if reached > INT32:
            raise too_large(reached)
    return v


def too_large(reached: int) -> SimulatorFault:
    """Return the fault of a value that 32 bits do not hold."""
    return SimulatorFault(
        f"DPU: values between the stages reach {reached}, must fit 32 bits (their saturation is"
        " not modelled)"
    )


def stage_add(stage: Stage, stream: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return what a stage adds: one number, or one for each channel; 0 where it is bypassed."""
    if stage.add is None:
        return np.zeros(1, np.int64)
    values = stream if stage.add == "stream" and stream is not None else np.array([stage.add])
    return -values.astype(np.int64) if stage.subtract else values.astype(np.int64)


def stage_factor(stage: Stage, stream: NDArray[np.int64] | None) -> NDArray[np.int64] | int:
    """Return what a stage multiplies by, for all channels or each; 1 where it is bypassed."""
    if stage.multiply is None:
        return 1
    if stage.streamed and stream is not None:
        return stream
    return stage.multiply.multiplier


@functools.lru_cache(maxsize=256)
def operand_table(ew: Elementwise) -> NDArray[np.int64]:
    """Return the converted operand for each int8 value from -128 on."""
    x = np.arange(-128, 128, dtype=np.int64)
    if ew.add_first:
        value = round_shift((x + ew.offset) * ew.scale.multiplier, ew.scale.shift, ew.ties_up)
    else:
        value = round_shift(x * ew.scale.multiplier, ew.scale.shift, ew.ties_up) + ew.offset
    return value


def _clamp(v: NDArray[np.int64], low: int | None, high: int | None) -> NDArray[np.int64]:
    if low is not None:
        v = np.maximum(v, low)
    return v if high is None else np.minimum(v, high)


def run_stage(
    v: NDArray[np.int64],
    stage: Stage,
    add: NDArray[np.int64],
    factor: NDArray[np.int64] | int,
) -> NDArray[np.int64]:
    """Return what BS or BN makes of values [..., channel], before its clamp, of any size."""
    scale: Scale | None = stage.multiply
    if scale is None:
        return v + add
    if not stage.multiply_first:
        v = v + add
        return signed_shift(v * factor, scale, v < 0)
    shifted = signed_shift(v * factor + add, scale, v < 0)
    return np.where(v < 0, shifted, v) if stage.prelu else shifted


def _stages(arithmetic: Arithmetic, v: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return values behind BS and BN."""
    operands, dpu = arithmetic.operands, arithmetic.dpu
    for stage, add, factor in (
        (dpu.bs, operands.bias, operands.multiplier),
        (dpu.bn, operands.bn_add, operands.bn_multiplier),
    ):
        if stage.multiply is not None and not stage.multiply_first:
            fits(v + stage_add(stage, add))
        done = fits(run_stage(v, stage, stage_add(stage, add), stage_factor(stage, factor)))
        v = _clamp(done, stage.low, stage.high)
    return v


def combine(v: NDArray[np.int64], operand: NDArray[np.int64], ew: Elementwise) -> NDArray[np.int64]:
    """Return values combined with the converted operand, before the clamp."""
    combined: NDArray[np.int64] = _ALGORITHMS[ew.algorithm](v, operand)
    return combined


def convert_output(v: NDArray[np.int64], output: Output) -> NDArray[np.int8]:
    """Return what the output converter makes of values."""
    scale = output.scale
    if output.add_first:
        value = round_shift((v + output.offset) * scale.multiplier, scale.shift, output.ties_up)
    else:
        value = round_shift(v * scale.multiplier, scale.shift, output.ties_up) + output.offset
    return np.clip(value, -128, 127).astype(np.int8)


def values(
    arithmetic: Arithmetic, accumulators: NDArray[Any], operand: NDArray[np.int8] | None
) -> NDArray[np.int8]:
    """Return int8 of accumulators [..., channel], and of the operand of EW of the same shape.

    Raises SimulatorFault where a value between the stages does not fit 32 bits.
    """
    core, dpu = arithmetic.core, arithmetic.dpu
    v = round_shift(accumulators.astype(np.int64), core.truncate, core.ties_up)
    v = _stages(arithmetic, v)
    if dpu.lut is not None and arithmetic.tables is not None:
        v = fits(arithmetic.tables.look_up(v, dpu.lut))
    if operand is not None and dpu.ew is not None:
        other = operand_table(dpu.ew)[operand.astype(np.int64) + 128]
        v = _clamp(fits(combine(v, other, dpu.ew)), dpu.ew.low, dpu.ew.high)
    return convert_output(v, dpu.output)


def general(
    arithmetic: Arithmetic,
    accumulators: NDArray[Any],
    operand: NDArray[np.int8] | None,
    shape: tuple[int, ...],
) -> NDArray[np.int8]:
    """Return int8 [surface, row, column, 16] of accumulators [pixel, channel]."""
    dpu = arithmetic.dpu
    taken = None if operand is None else to_matrix(operand)[:, : dpu.channels]
    out = np.full((len(accumulators), shape[0] * ATOM), dpu.pend, np.int8)
    out[:, : dpu.channels] = values(arithmetic, accumulators[:, : dpu.channels], taken)
    return out.reshape(-1, shape[2], shape[0], ATOM).transpose(2, 0, 1, 3)


def process(
    arithmetic: Arithmetic,
    rows: range,
    accumulators: NDArray[Any],
    operand: NDArray[np.int8] | None,
    out: NDArray[np.int8],
) -> None:
    """Post-process accumulators [pixel, channel] into rows of `out` [surface, row, column, 16]."""
    part = slice(rows.start, rows.stop)
    taken = None if operand is None else operand[:, part]
    out[:, part] = general(arithmetic, accumulators, taken, out.shape)


def to_matrix(surfaces: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return surfaces [u, y, x, 16] as rows [pixel, channel]."""
    return surfaces.transpose(1, 2, 0, 3).reshape(-1, surfaces.shape[0] * ATOM)
