# Ref: docs/hardware/rocket.md §8.4, §8.6
# Ref: docs/hardware/rocket_vendor.md §1 (pipeline model)
"""The DPU's arithmetic as arguments of the C loop, which computes all modes but ties rounded up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import _units
from .cube import ATOM
from .dpu import DpuTask
from .post import INT32, Arithmetic, operand_table, stage_add, stage_factor
from .ranges import Reach
from .stages import Elementwise, Scale, Stage

_FAR = 1 << 30
"""A scaled value that saturates whatever modest offset is added to it."""
_OPERATIONS = {"add": 0, "subtract": 1, "max": 2, "min": 3, "multiply": 4}


@dataclass(frozen=True)
class Loop:
    """One task's arithmetic for the C loop.

    rich: what only the loop in floating point does (exactly: its numbers fit 53 bits): a second
    multiplier, shifts of negative values, tables, EW that does not add, and watching the range.
    """

    bias: NDArray[np.int32]
    factors: NDArray[np.float64] | None
    table: NDArray[np.int32] | None
    stages: _units.Stages
    channels: int
    rich: _units.Rich | None = None

    def with_operand(self, operand: NDArray[np.int8] | None) -> _units.Post:
        """Return the loop's argument; `operand` are the surfaces that EW takes, where it is on."""
        table = None if operand is None else self.table
        return self.bias, self.factors, operand, table, self.stages, self.channels, self.rich


def loop(arithmetic: Arithmetic, reach: Reach) -> Loop | None:
    """Return what the C loop needs; None where it lacks a mode."""
    dpu = arithmetic.dpu
    if arithmetic.core.ties_up or dpu.output.ties_up or dpu.output.add_first:
        return None
    if abs(dpu.output.offset) > _FAR // 2:
        return None
    return _plain(arithmetic) if reach.proven and _is_plain(dpu) else _rich(arithmetic)


def _is_plain(dpu: DpuTask) -> bool:
    """Whether integers of 32 bits and one multiplier do."""
    bs, bn = dpu.bs, dpu.bn
    return not (
        bn.multiply is not None
        or bn.add == "stream"
        or (bs.multiply is not None and bs.multiply.negative is not None)
        or dpu.lut is not None
        or (dpu.ew is not None and dpu.ew.algorithm != "add")
    )


def _plain(arithmetic: Arithmetic) -> Loop:
    dpu, operands = arithmetic.dpu, arithmetic.operands
    lanes = -(-dpu.channels // ATOM) * ATOM
    add = int(stage_add(dpu.bn, None)[0])
    bias = np.zeros(lanes, np.int64)
    bias[: dpu.channels] = stage_add(dpu.bs, operands.bias)
    factors = None
    if dpu.bs.multiply is not None:
        factors = np.zeros(lanes)
        factors[: dpu.channels] = stage_factor(dpu.bs, operands.multiplier)
        factors *= 2.0**-dpu.bs.multiply.shift
    else:
        bias[: dpu.channels] += add
    before, behind = _clamps(dpu, add)
    stages = _stages(arithmetic, 0 if factors is None else add, before, behind)
    return Loop(bias.astype(np.int32), factors, _table(dpu.ew), stages, dpu.channels)


def _table(ew: Elementwise | None) -> NDArray[np.int32] | None:
    return None if ew is None else operand_table(ew).astype(np.int32)


def _stages(
    arithmetic: Arithmetic, add: int, before: tuple[int, int], behind: tuple[int, int]
) -> _units.Stages:
    dpu = arithmetic.dpu
    scale = dpu.output.scale
    return (
        2.0**-arithmetic.core.truncate,
        add,
        *before,
        *behind,
        scale.multiplier * 2.0**-scale.shift,
        dpu.output.offset,
        dpu.pend,
    )


def _clamps(dpu: DpuTask, add: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return limits of v + add before EW adds its operand, and after it; all of them, twice, where
    there is no operand.

    Two clamps in a row are one clamp. The last is wide enough to change nothing: beyond it
    the output saturates, and within it the output converter stays far from 32 bits.
    """
    low, high = _limits(dpu.bs)
    stages = (max(low + add, -INT32), min(high + add, INT32))
    before = _chained(stages, _limits(dpu.bn))
    scale = dpu.output.scale
    factor = abs(scale.multiplier)
    far = min((_FAR << scale.shift) // factor, INT32) if factor else INT32
    if dpu.ew is not None:
        return before, _chained(_limits(dpu.ew), (-far, far))
    whole = _chained(before, (-far, far))
    return whole, whole


def _chained(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    low, high = (min(max(limit, second[0]), second[1]) for limit in first)
    return low, high


def _limits(stage: Stage | Elementwise) -> tuple[int, int]:
    return -INT32 if stage.low is None else stage.low, INT32 if stage.high is None else stage.high


def _rich(arithmetic: Arithmetic) -> Loop:
    dpu, operands = arithmetic.dpu, arithmetic.operands
    lanes = -(-dpu.channels // ATOM) * ATOM
    bias = np.zeros(lanes, np.int64)
    bias[: dpu.channels] = stage_add(dpu.bs, operands.bias)
    numbers = np.zeros((5, lanes))
    numbers[:2, : dpu.channels] = _factors(dpu.bs, operands.multiplier)
    numbers[2:4, : dpu.channels] = _factors(dpu.bn, operands.bn_multiplier)
    shift = dpu.bn.multiply.shift if dpu.bn.multiply is not None else 0
    numbers[4, : dpu.channels] = stage_add(dpu.bn, operands.bn_add) * 2.0**-shift
    entries, slopes = None, (0.0, 0.0)
    if dpu.lut is not None and arithmetic.tables is not None:
        entries = arithmetic.tables.every
        slopes = _factor(dpu.lut.below), _factor(dpu.lut.above)
    rich = (
        numbers,
        entries,
        (*_limits(dpu.bs), *_limits(dpu.bn), *slopes),
        int(dpu.lut is not None and dpu.lut.floor),
        _OPERATIONS["add" if dpu.ew is None else dpu.ew.algorithm],
    )
    ew = (-INT32, INT32) if dpu.ew is None else _limits(dpu.ew)
    stages = _stages(arithmetic, 0, ew, ew)
    return Loop(bias.astype(np.int32), None, _table(dpu.ew), stages, dpu.channels, rich)


def _factor(scale: Scale) -> float:
    return scale.multiplier * 2.0**-scale.shift


def _factors(stage: Stage, stream: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return the factors of positive and of negative values, [2, channel or 1], shifts included."""
    factor = np.atleast_1d(np.asarray(stage_factor(stage, stream), np.float64))
    scale = stage.multiply
    if scale is None:
        return np.stack([factor, factor])
    negative = scale.shift if scale.negative is None else scale.negative
    below = factor * 2.0**-negative
    return np.stack([np.ones_like(factor) if stage.prelu else factor * 2.0**-scale.shift, below])
