# Ref: docs/hardware/rocket.md §7.2 to §7.4 (converters), §8.4 (values between the stages)
"""Numbers for which Mesa 26.2.6 writes registers that mean something else, or that overflow.

Mesa itself does not look. A real model has none of them: scales lie within some powers of ten.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from teflon.ir.graph import Graph, Value
from teflon.ir.ops import Add, DepthwiseConv2D
from teflon_rocket.mesa.hosts import Convolved
from teflon_rocket.mesa.numbers import float_bits

_OUTPUT_SHIFTS = range(61)
"""What OUT_CVT_SHIFT may be; the simulator knows no more."""
_OPERAND_SHIFTS = range(64)
"""What the six bits of the operand's shift hold."""
_REACH = (1 << 31) - 1


def extreme(op: Convolved, graph: Graph) -> str:
    """Return why the numbers of a convolution, or of the sum that it does, are beyond the chip."""
    return next(_problems(op, graph), "")


def _problems(op: Convolved, graph: Graph) -> Iterator[str]:
    sums = [u for u in graph.users(op.output) if isinstance(u, Add) and u.a is op.output]
    with np.errstate(all="ignore"):  # infinity and 0 are what is looked for
        unit = np.float32(op.input.type.scale) * np.float32(op.weights.type.scale)
        for result in (op.output, *(add.output for add in sums)):
            ratio = np.float32(unit / np.float32(result.type.scale))
            shift = 141 - (float_bits(ratio) >> 23) - 1
            if shift not in _OUTPUT_SHIFTS:
                yield (
                    f"a step of the sums is {ratio:g} steps of {result.name!r}: Mesa shifts by"
                    f" {shift} bits, must be 0 to {_OUTPUT_SHIFTS[-1]}"
                )
        reach = _reach(op)
        for add in sums:
            ratio = np.float32(np.float32(add.b.type.scale) / unit)
            shift = 141 - (float_bits(ratio) >> 23)
            if shift not in _OPERAND_SHIFTS:
                yield (
                    f"a step of {add.b.name!r} is {ratio:g} steps of the sums: Mesa shifts by"
                    f" {shift} bits, must be 0 to {_OPERAND_SHIFTS[-1]}"
                )
            reach += 255 * float(ratio)
    if not reach <= _REACH:
        yield f"sums and biases reach {reach:.0f}, must fit 32 bits (their saturation is not known)"


def _reach(op: Convolved) -> float:
    """Return a bound of the sums with their biases, whatever the input is."""
    assert op.bias is not None
    assert op.bias.data is not None
    bias = float(np.abs(op.bias.data.astype(np.int64)).max(initial=0))
    span = 128 + abs(_uint8_zero(op.input) - 128)
    count = op.weights.data.size if op.weights.data is not None else 0
    taps = count // max(op.output.shape[3], 1)
    if bias + span * 255 * taps <= _REACH or op.weights.data is None:
        return bias + span * 255 * taps
    zero = op.weights.type.zero_point & 0xFF
    distance = np.abs(op.weights.data.view(np.uint8).astype(np.int64) - zero)
    axes = (0, 1, 2) if isinstance(op, DepthwiseConv2D) else (1, 2, 3)
    sums = span * distance.sum(axis=axes) + np.abs(op.bias.data.astype(np.int64))
    return float(sums.max(initial=0))


def _uint8_zero(value: Value) -> int:
    return value.type.zero_point & 0xFF
