"""The layer of a sum or difference: a 1x1 convolution over both operands' planes.

Ref: docs/hardware/etnaviv.md section 4.9 (V8's form and its arithmetic)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from teflon.ir.ops import Add, Sub
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.functions import scaled
from teflon_etnaviv.exact.layers.activation import clamps_below
from teflon_etnaviv.exact.layers.weights import output_scale
from teflon_etnaviv.nn.layer import Layer, Weights
from teflon_etnaviv.rounding import cdiv
from teflon_etnaviv.tensors import Tensor


def sum_shape(size: int, chip: Chip) -> tuple[int, int, int] | None:
    """Return (planes, rows, columns) with this product: how an addition's bytes are cut.

    On V8 as many planes as there are cores where that divides, on V7 one as in Mesa: more cores
    would mean more streams of at least 64 bytes. None where no cut fits the fields.
    """
    most = chip.nn_core_count if chip.huffman else 1
    for planes in range(min(most, size), 0, -1):
        if size % planes:
            continue
        pixels = size // planes
        least = cdiv(pixels, chip.nn_image_max)
        for rows in range(least, min(pixels, chip.nn_image_max) + 1):
            if pixels % rows == 0:
                return planes, rows, pixels // rows
    return None


def weights_in_ratio(ratio: float) -> tuple[int, int]:
    """Return two weights, the first positive, whose quotient is as near to `ratio` as 8 bits allow.

    Both count from the weights' zero point, so together they span at most 255. The ratio is one of
    `halves`: at most _REACH, or its inverse.
    """
    one = np.arange(255, 0, -1)
    other = np.rint(ratio * one).astype(np.int64)
    fits = np.maximum(np.maximum(one, other), one - other) <= 255
    error = np.abs(other - ratio * one) / np.maximum(one, np.abs(other))
    best = int(np.where(fits, error, np.inf).argmin())
    return int(one[best]), int(other[best])


@dataclass(frozen=True)
class Halves:
    """What the operands of a sum become before they are added: 256 results each, or nothing."""

    a: bytes | None
    b: bytes | None
    scales: tuple[float, float]
    zeros: tuple[int, int]


_REACH = 250
"""How many times the other's weight one operand's may be: a little less than 8 bits allow."""
_ENOUGH = 128


def halves(a: Tensor, b: Tensor, target: Tensor) -> Halves:
    """Return what brings two operands' scales so near to one another that 8-bit weights do.

    The one of the smaller scale is rounded to half a step of the result, or to as much as its
    weight needs: it is off by a quarter of a step of the result then. Where that is not enough, the
    other one is multiplied and cut off at a byte's ends, where the result is beyond its range.
    """
    scales = [float(a.scale), float(b.scale)]
    zeros = [a.zero_point, b.zero_point]
    found: list[bytes | None] = [None, None]
    small, large = (0, 1) if scales[0] <= scales[1] else (1, 0)
    if scales[large] <= _REACH * scales[small]:
        return Halves(None, None, (scales[0], scales[1]), (zeros[0], zeros[1]))
    operands = (a, b)
    coarse = min(scales[large] / _ENOUGH, float(target.scale) / 2)
    if coarse > scales[small]:
        scales[small], zeros[small] = coarse, operands[small].zero_point
        found[small] = scaled(operands[small], coarse, zeros[small])
    times = math.ceil(scales[large] / (_REACH * scales[small]))
    if times > 1:
        scales[large], zeros[large] = scales[large] / times, 128
        found[large] = scaled(operands[large], scales[large], 128)
    return Halves(found[0], found[1], (scales[0], scales[1]), (zeros[0], zeros[1]))


_AWAY = 1 + 2.0**-14
"""Brings halves away from zero, where TFLite rounds them to, and nothing else anywhere: it is a
64th of a step at most. The cores would round them to even numbers.
"""


def addition(op: Add | Sub, chip: Chip) -> Layer:
    """Return the layer of a sum or difference of what `halves` made of the operands.

    The operands' bytes lie one behind the other; how they are cut into planes is free, as long as
    it is the same for both. Weights have 8 bits, so the result may be off by one step.
    """
    target = Tensor.of(op.output)
    made = halves(Tensor.of(op.a), Tensor.of(op.b), target)
    shape = sum_shape(target.size_bytes, chip)
    assert shape is not None, "a rule asks for it"
    planes, rows, columns = shape
    ratio = made.scales[1] / made.scales[0] * (-1 if isinstance(op, Sub) else 1)
    one, other = weights_in_ratio(ratio)
    zero = max(-other, 0)
    first, second = one + zero, other + zero
    step = 1 / one if abs(ratio) <= 1 else ratio / other  # the larger operand's weight is exact
    weights = np.full((planes, 2 * planes), zero, np.uint8)
    numbers = np.arange(planes)
    weights[numbers, numbers] = first
    weights[numbers, planes + numbers] = second
    # The first operand's zero point stands for both in the border and bias: correct the second's.
    bias = (second - zero) * (made.zeros[0] - made.zeros[1])
    return Layer(
        height=rows,
        width=columns,
        in_channels=2 * planes,
        planes=2 * planes,
        out_height=rows,
        out_width=columns,
        out_channels=planes,
        kernel_height=1,
        kernel_width=1,
        in_zero=made.zeros[0],
        out_zero=target.zero_point,
        scale=output_scale(made.scales[0], step * _AWAY, float(target.scale)),
        weights=Weights(weights.reshape(-1), zero, zero),
        bias=np.full(planes, bias, np.int32),
        pointwise=True,
        relu=clamps_below(op),
        title=op.title,
    )


def sum_of_tables(size: int, parts: int, chip: Chip) -> Layer:
    """Return the layer of tables that add up: the first one as it is, the others less 128 each.

    All weights are 1, and so is the scale: nothing is rounded.
    """
    shape = sum_shape(size, chip)
    assert shape is not None, "a rule asks for it"
    planes, rows, columns = shape
    numbers = np.arange(planes)
    weights = np.zeros((planes, parts * planes), np.uint8)
    for part in range(parts):
        weights[numbers, part * planes + numbers] = 1
    return Layer(
        height=rows,
        width=columns,
        in_channels=parts * planes,
        planes=parts * planes,
        out_height=rows,
        out_width=columns,
        out_channels=planes,
        kernel_height=1,
        kernel_width=1,
        in_zero=0,
        out_zero=0,
        scale=np.float32(1),
        weights=Weights(weights.reshape(-1), 0, 0),
        bias=np.full(planes, -128 * (parts - 1), np.int32),
        pointwise=True,
        title="sum of tables",
    )
