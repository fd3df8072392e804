"""Layers of a product of two tensors, which the NN cores cannot multiply: by squares of digits.

A byte less 128 is 11 h + l with digits of at most 12, so the products of two bytes' digits are
quarters of squares that fit a byte: h k = ((h + k)^2 - (h - k)^2) / 4, and of both squares the same
quarter is lost. One layer makes the eight sums and differences of digits, one table all squares,
one layer adds them up with the weights 121, 11, 11 and 1. Nothing is rounded before its end.

    (x + p) (y + q) = x y + q x + p y + p q,  x and y less 128, p and q what their zero points lack
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from teflon.ir.ops import Mul
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.layers.activation import clamps_below
from teflon_etnaviv.exact.layers.sums import sum_shape
from teflon_etnaviv.exact.layers.weights import output_scale
from teflon_etnaviv.nn.layer import Layer, Weights
from teflon_etnaviv.tensors import Tensor

I64 = npt.NDArray[np.int64]

BASE = 11
MIDDLE = 128
"""The zero point of bytes and digits here, whatever their tensors say."""
TERMS = 8

_LETTERS = np.array(
    [  # of the digits h and k, and of the bytes x and y less 128; the second digits are x - 11 h
        [1, 0, 0, 0],
        [-BASE, 0, 1, 0],
        [0, 1, 0, 0],
        [0, -BASE, 0, 1],
    ]
)
_PAIRS = ((0, 2), (0, 3), (1, 2), (1, 3))
_WORTH = (BASE * BASE, BASE, BASE, 1)


def digits() -> bytes:
    """Return the function from a byte to its first digit."""
    numbers = np.arange(256) - MIDDLE
    found = np.rint(numbers / BASE).astype(np.int64) + MIDDLE
    return bytes(found.tolist())


def squares() -> bytes:
    """Return the function from a byte to a quarter of its square, rounded down."""
    numbers = np.arange(256) - MIDDLE
    return bytes(np.minimum(numbers * numbers // 4, 255).tolist())


def terms(size: int, chip: Chip) -> Layer:
    """Return the layer from digits and bytes to sums and differences of digits, two for each pair.

    Input: planes of h, k, x and y.
    """
    rows = [_LETTERS[a] + sign * _LETTERS[b] for a, b in _PAIRS for sign in (1, -1)]
    return _layer(np.array(rows), size, chip, MIDDLE, np.float32(1), "digits")


def product(op: Mul, chip: Chip) -> Layer:
    """Return the layer from bytes and squares to the product.

    Input: planes of x, y and eight squares.
    """
    a, b, target = Tensor.of(op.a), Tensor.of(op.b), Tensor.of(op.output)
    p, q = MIDDLE - a.zero_point, MIDDLE - b.zero_point
    worth = np.repeat(_WORTH, 2) * np.tile((1, -1), len(_PAIRS))  # adds up to nothing: no bias
    scale = output_scale(float(a.scale), float(b.scale), float(target.scale))
    weights = np.concatenate([(q, p), worth])[None]
    return _layer(
        weights,
        target.size_bytes,
        chip,
        target.zero_point,
        scale,
        op.title,
        p * q,
        clamps_below(op),
    )


def _layer(
    weights: I64,
    size: int,
    chip: Chip,
    out_zero: int,
    scale: np.float32,
    title: str,
    bias: int = 0,
    relu: bool = False,
) -> Layer:
    """Return the layer that weighs tensors of `size` bytes; weights [results, operands]."""
    shape = sum_shape(size, chip)
    assert shape is not None, "a rule asks for it"
    planes, rows, columns = shape
    results, operands = weights.shape
    zero = max(0, -int(weights.min()))
    blocks = np.kron(weights, np.eye(planes, dtype=np.int64)) + zero
    return Layer(
        height=rows,
        width=columns,
        in_channels=operands * planes,
        planes=operands * planes,
        out_height=rows,
        out_width=columns,
        out_channels=results * planes,
        kernel_height=1,
        kernel_width=1,
        in_zero=MIDDLE,
        out_zero=out_zero,
        scale=scale,
        weights=Weights(blocks.astype(np.uint8).reshape(-1), zero, zero),
        bias=np.full(results * planes, bias, np.int32),
        pointwise=True,
        relu=relu,
        title=title,
    )
