# Ref: docs/hardware/rocket.md §8.4, §8.6
"""The DPU's arithmetic: from accumulators to int8 surfaces."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault

from . import _units
from .core import CoreTask
from .cube import ATOM
from .dpu import DpuTask, Elementwise, Output, Scale, Stage
from .rdma import ChannelOperands
from .rounding import round_shift, signed_shift

_INT32 = (1 << 31) - 1
_FAR = 1 << 30
"""A scaled value that saturates whatever modest offset is added to it."""


@dataclass(frozen=True)
class Arithmetic:
    """All that happens in one task from accumulator to int8, with the operands per channel."""

    core: CoreTask
    dpu: DpuTask
    operands: ChannelOperands

    @property
    def plain(self) -> bool:
        """Whether the C loop has its modes: no second multiplier, ties to even everywhere."""
        bn, out, ew = self.dpu.bn, self.dpu.output, self.dpu.ew
        return not (
            self.core.ties_up
            or out.ties_up
            or out.add_first
            or bn.multiply is not None
            or (self.dpu.bs.multiply is not None and self.dpu.bs.multiply.negative is not None)
            or (ew is not None and ew.algorithm != "add")
        )


@dataclass(frozen=True)
class Reach:
    """The largest magnitudes of values: before BS multiplies, and anywhere after that."""

    before: int
    after: int


def check_range(arithmetic: Arithmetic, bound: int) -> Reach:
    """Raise SimulatorFault when a value could leave 32 bits between the stages.

    `bound` is the largest accumulator; saturation between stages is not documented.
    """
    bias, operands = stage_add(arithmetic.dpu.bs, arithmetic.operands.bias), arithmetic.operands
    before = largest = (bound >> arithmetic.core.truncate) + 1 + int(np.abs(bias).max())
    if arithmetic.dpu.bs.multiply is not None:
        scale = arithmetic.dpu.bs.multiply
        top = int(np.abs(operands.multiplier).max()) if operands.multiplier is not None else 1
        shift = min(scale.shift, scale.shift if scale.negative is None else scale.negative)
        largest = largest * max(abs(scale.multiplier), top) >> shift
    largest += abs(int(stage_add(arithmetic.dpu.bn, None)[0]))
    if arithmetic.dpu.ew is not None:
        largest += int(np.abs(operand_table(arithmetic.dpu.ew)).max())
    if largest > _INT32:
        raise SimulatorFault(
            f"DPU: values between the stages may reach {largest}, saturation of 32 bits is not"
            " modelled"
        )
    return Reach(before, largest)


def stage_add(stage: Stage, stream: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return what a stage adds: one number, or one for each channel; 0 where it is bypassed."""
    if stage.add is None:
        return np.zeros(1, np.int64)
    values = stream if stage.add == "stream" and stream is not None else np.array([stage.add])
    return -values.astype(np.int64) if stage.subtract else values.astype(np.int64)


@functools.lru_cache(maxsize=256)
def operand_table(ew: Elementwise) -> NDArray[np.int64]:
    """Return the converted operand for each int8 value from -128 on."""
    x = np.arange(-128, 128, dtype=np.int64)
    if ew.add_first:
        value = round_shift((x + ew.offset) * ew.scale.multiplier, ew.scale.shift, ew.ties_up)
    else:
        value = round_shift(x * ew.scale.multiplier, ew.scale.shift, ew.ties_up) + ew.offset
    return value


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


@dataclass(frozen=True)
class Loop:
    """The same arithmetic as arguments of the C loop."""

    bias: NDArray[np.int32]
    factors: NDArray[np.float64] | None
    table: NDArray[np.int32] | None
    stages: _units.Stages
    channels: int

    def with_operand(self, operand: NDArray[np.int8] | None) -> _units.Post:
        """Return the loop's argument; `operand` are the surfaces that EW adds, where it is on."""
        table = None if operand is None else self.table
        return self.bias, self.factors, operand, table, self.stages, self.channels


def loop(arithmetic: Arithmetic, reach: Reach) -> Loop | None:
    """Return what the C loop needs; None where 32 bits may not suffice or it lacks a mode."""
    offset = arithmetic.dpu.output.offset
    # A rounded product may be one above the bound, which is rounded down.
    fits = max(reach.before, reach.after + 1) <= _INT32 and abs(offset) <= _FAR // 2
    if not (arithmetic.plain and fits):
        return None
    dpu, operands = arithmetic.dpu, arithmetic.operands
    lanes = -(-dpu.channels // ATOM) * ATOM
    add = int(stage_add(dpu.bn, None)[0])
    bias = np.zeros(lanes, np.int32)
    bias[: dpu.channels] = stage_add(dpu.bs, operands.bias)
    factors, table = None, None
    if dpu.bs.multiply is not None:
        factors = np.full(lanes, 2.0**-dpu.bs.multiply.shift)
        factors[: dpu.channels] *= _multipliers(dpu.bs.multiply, dpu.bs, operands)
    else:
        bias[: dpu.channels] += add
    if dpu.ew is not None:
        table = operand_table(dpu.ew).astype(np.int32)
    stages = (
        2.0**-arithmetic.core.truncate,
        0 if factors is None else add,
        *_clamps(dpu, add),
        dpu.output.scale.multiplier * 2.0**-dpu.output.scale.shift,
        offset,
        dpu.pend,
    )
    return Loop(bias, factors, table, stages, dpu.channels)


def _clamps(dpu: DpuTask, add: int) -> tuple[int, int, int, int]:
    """Return limits of v + add before EW adds its operand, and after it; all of them, twice, where
    there is no operand.

    Two clamps in a row are one clamp. The last is wide enough to change nothing: beyond it
    the output saturates, and within it the output converter stays far from 32 bits.
    """
    low, high = _limits(dpu.bs)
    stages = (max(low + add, -_INT32), min(high + add, _INT32))
    before = _chained(stages, _limits(dpu.bn))
    scale = dpu.output.scale
    far = min((_FAR << scale.shift) // scale.multiplier, _INT32) if scale.multiplier else _INT32
    if dpu.ew is not None:
        return *before, *_chained(_limits(dpu.ew), (-far, far))
    whole = _chained(before, (-far, far))
    return *whole, *whole


def _chained(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    low, high = (min(max(limit, second[0]), second[1]) for limit in first)
    return low, high


def _limits(stage: Stage | Elementwise) -> tuple[int, int]:
    return -_INT32 if stage.low is None else stage.low, _INT32 if stage.high is None else stage.high


def _multipliers(scale: Scale, stage: Stage, operands: ChannelOperands) -> NDArray[np.int64] | int:
    if stage.streamed and operands.multiplier is not None:
        return operands.multiplier
    return scale.multiplier


def _clamp(v: NDArray[np.int64], low: int | None, high: int | None) -> NDArray[np.int64]:
    if low is not None:
        v = np.maximum(v, low)
    return v if high is None else np.minimum(v, high)


def _stage(v: NDArray[np.int64], stage: Stage, operands: ChannelOperands) -> NDArray[np.int64]:
    v = v + stage_add(stage, operands.bias)
    if stage.multiply is not None:
        v = signed_shift(v, _multipliers(stage.multiply, stage, operands), stage.multiply)
    return _clamp(v, stage.low, stage.high)


def _combine(
    v: NDArray[np.int64], operand: NDArray[np.int64], ew: Elementwise
) -> NDArray[np.int64]:
    combined = {
        "add": np.add,
        "subtract": np.subtract,
        "max": np.maximum,
        "min": np.minimum,
    }[ew.algorithm](v, operand)
    return _clamp(combined, ew.low, ew.high)


def convert_output(v: NDArray[np.int64], output: Output) -> NDArray[np.int8]:
    """Return what the output converter makes of values."""
    scale = output.scale
    if output.add_first:
        value = round_shift((v + output.offset) * scale.multiplier, scale.shift, output.ties_up)
    else:
        value = round_shift(v * scale.multiplier, scale.shift, output.ties_up) + output.offset
    return np.clip(value, -128, 127).astype(np.int8)


def general(
    arithmetic: Arithmetic,
    accumulators: NDArray[Any],
    operand: NDArray[np.int8] | None,
    shape: tuple[int, ...],
) -> NDArray[np.int8]:
    """Return int8 [surface, row, column, 16] of accumulators: all stages in int64, any mode."""
    core, dpu, operands = arithmetic.core, arithmetic.dpu, arithmetic.operands
    v = accumulators[:, : dpu.channels].astype(np.int64)
    v = round_shift(v, core.truncate, core.ties_up)
    v = _stage(_stage(v, dpu.bs, operands), dpu.bn, operands)
    if operand is not None and dpu.ew is not None:
        index = to_matrix(operand)[:, : dpu.channels].astype(np.int64) + 128
        v = _combine(v, operand_table(dpu.ew)[index], dpu.ew)
    out = np.full((len(v), shape[0] * ATOM), dpu.pend, np.int8)
    out[:, : dpu.channels] = convert_output(v, dpu.output)
    return out.reshape(-1, shape[2], shape[0], ATOM).transpose(2, 0, 1, 3)


def to_matrix(surfaces: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return surfaces [u, y, x, 16] as rows [pixel, channel]."""
    return surfaces.transpose(1, 2, 0, 3).reshape(-1, surfaces.shape[0] * ATOM)
