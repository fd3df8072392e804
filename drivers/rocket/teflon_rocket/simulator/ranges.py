# Ref: docs/hardware/rocket.md §8.4, §8.6 (values between the stages have 32 bits)
"""How large the DPU's values can get, by the accumulators' bound: which loop may compute them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .post import (
    INT32,
    Arithmetic,
    combine,
    operand_table,
    run_stage,
    stage_add,
    stage_factor,
)
from .stages import Stage

_Range = tuple[NDArray[np.int64], NDArray[np.int64]]
_FAR = 1 << 45
"""A bound of what is followed: beyond 32 bits the exact number does not count."""


@dataclass(frozen=True)
class Reach:
    """The largest magnitudes that values can have: before BS multiplies, and anywhere after."""

    before: int
    after: int

    @property
    def proven(self) -> bool:
        """Whether 32 bits hold all values, whatever the input."""
        return max(self.before, self.after) <= INT32


def check_range(arithmetic: Arithmetic, bound: int) -> Reach:
    """Return the reach of values; `bound` is the largest accumulator.

    Where it is not proven, values have to be looked at while they are computed: saturation of
    values between the stages is not documented.
    """
    operands, dpu = arithmetic.operands, arithmetic.dpu
    whole = (bound >> arithmetic.core.truncate) + 1
    low, high = np.array([-whole]), np.array([whole])
    bias = stage_add(dpu.bs, operands.bias)
    before = _largest((low + bias, high + bias))
    after = 0
    for stage, add, factor in (
        (dpu.bs, bias, stage_factor(dpu.bs, operands.multiplier)),
        (dpu.bn, stage_add(dpu.bn, operands.bn_add), stage_factor(dpu.bn, operands.bn_multiplier)),
    ):
        low, high = _image(_stage(stage, add, factor), (low, high))
        after = max(after, _largest((low, high)))
        low, high = _clamped((low, high), stage.low, stage.high)
    if dpu.lut is not None and arithmetic.tables is not None:
        tables, lut = arithmetic.tables, dpu.lut
        ends = [np.clip(v, -_FAR, _FAR) for v in (low, high)]
        seen = np.concatenate([tables.entries, *(tables.look_up(v, lut) for v in ends)])
        low, high = np.array([seen.min()]), np.array([seen.max()])
        after = max(after, _largest((low, high)))
    if dpu.ew is not None:
        table = operand_table(dpu.ew)
        corners = np.stack([combine(v, t, dpu.ew) for v in (low, high)
                            for t in (table.min(), table.max())])  # fmt: skip
        after = max(after, _largest((corners.min(0), corners.max(0))))
    return Reach(before, after)


def _stage(
    stage: Stage, add: NDArray[np.int64], factor: NDArray[np.int64] | int
) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    return lambda v: run_stage(v, stage, add, factor)


def _image(of: Callable[[NDArray[np.int64]], NDArray[np.int64]], given: _Range) -> _Range:
    """Return the range of a stage, which is monotone among positive and among negative values."""
    low, high = (np.clip(v, -_FAR, _FAR) for v in given)
    points = [low, high, np.clip(-1, low, high), np.clip(0, low, high)]
    seen = np.stack([of(v) for v in points])
    return seen.min(0), seen.max(0)


def _clamped(given: _Range, low: int | None, high: int | None) -> _Range:
    least, most = -(1 << 62) if low is None else low, (1 << 62) if high is None else high
    return np.clip(given[0], least, most), np.clip(given[1], least, most)


def _largest(given: _Range) -> int:
    return max(-int(given[0].min()), int(given[1].max()))
