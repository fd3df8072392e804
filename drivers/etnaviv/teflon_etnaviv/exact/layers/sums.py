"""The layer of a sum or difference: a 1x1 convolution over both operands' planes.

Ref: docs/hardware/etnaviv.md section 4.9 (V8's form and its arithmetic)
"""

from __future__ import annotations

import numpy as np

from teflon.ir.ops import Add, Sub
from teflon_etnaviv.chips import Chip
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

    Both count from the weights' zero point, so together they span at most 255.
    """
    if not -254 <= ratio <= 255:  # the first operand's weight is 1 or 0
        other_end = 255 if ratio > 0 else -254
        return round(other_end / ratio), other_end
    one = np.arange(255, 0, -1)
    other = np.rint(ratio * one).astype(np.int64)
    fits = np.maximum(np.maximum(one, other), one - other) <= 255
    error = np.abs(other - ratio * one) / np.maximum(one, np.abs(other))
    best = int(np.where(fits, error, np.inf).argmin())
    return int(one[best]), int(other[best])


def addition(op: Add | Sub, chip: Chip) -> Layer:
    """Return the layer of a sum or difference.

    The operands' bytes lie one behind the other; how they are cut into planes is free, as long as
    it is the same for both. Weights have 8 bits, so the result may be off by one step.
    """
    a, b, target = Tensor.of(op.a), Tensor.of(op.b), Tensor.of(op.output)
    shape = sum_shape(a.size_bytes, chip)
    assert shape is not None, "a rule asks for it"
    planes, rows, columns = shape
    ratio = float(b.scale) / float(a.scale) * (-1 if isinstance(op, Sub) else 1)
    one, other = weights_in_ratio(ratio)
    zero = max(-other, 0)
    first, second = one + zero, other + zero
    step = 1 / one if abs(ratio) <= 1 else ratio / other  # the larger operand's weight is exact
    weights = np.full((planes, 2 * planes), zero, np.uint8)
    numbers = np.arange(planes)
    weights[numbers, numbers] = first
    weights[numbers, planes + numbers] = second
    # The first operand's zero point stands for both in the border and bias: correct the second's.
    bias = (second - zero) * (a.zero_point - b.zero_point)
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
        in_zero=a.zero_point,
        out_zero=target.zero_point,
        scale=output_scale(float(a.scale), step, float(target.scale)),
        weights=Weights(weights.reshape(-1), zero, zero),
        bias=np.full(planes, bias, np.int32),
        pointwise=True,
        relu=clamps_below(op),
        title=op.title,
    )
