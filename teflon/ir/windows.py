"""Sums over windows: exact integer convolutions through matrix products.

A floating-point product of integers is exact as long as no partial sum can leave the integers that
the type holds exactly. For a convolution, |any partial sum| <= max|input| * max over outputs of the
sum of |weights|, in whatever order it is added up. That bound is computed from the weights at hand
and picks the type: float32 below 2**24, float64 below 2**53, else int64.

The usual convolutions of 8 bits take the loops of `teflon.ir.eight` instead.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from teflon.ir.types import Array, Padding

_PATCH_ELEMENTS = 1 << 20  # of one matrix of patches: a few megabytes, whatever the image's size


def exact_type(bound: float) -> npt.DTypeLike:
    """Return the fastest type whose sums are exact while they stay within the bound."""
    if bound <= 2**24:
        return np.float32
    return np.float64 if bound <= 2**53 else np.int64


def magnitude(x: Array) -> int:
    """Return the largest absolute value of an integer array, 0 for an empty one."""
    return max(int(x.max()), -int(x.min())) if x.size else 0


def largest_sum(x: Array, weights: Array) -> int:
    """Return the bound of all partial sums; weights' axis 0 are the outputs."""
    sums = np.abs(weights.reshape(len(weights), -1).astype(np.float64)).sum(axis=1)
    return magnitude(x) * int(sums.max(initial=0))


def pad_image(x: Array, padding: Padding, value: float = 0) -> Array:
    """Return an NHWC image with rows and columns added on each side."""
    sides = (padding.top, padding.bottom, padding.left, padding.right)
    if not any(sides):
        return x
    batch, height, width, channels = x.shape
    shape = (batch, height + sides[0] + sides[1], width + sides[2] + sides[3], channels)
    out = np.full(shape, value, x.dtype)
    out[:, sides[0] : sides[0] + height, sides[2] : sides[2] + width] = x
    return out


def windows(
    x: Array, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Array:
    """Return a view [N, out height, out width, kernel height, kernel width, C] of an image."""
    out_y, out_x = Padding().output((x.shape[1], x.shape[2]), kernel, stride, dilation)
    n, y, w, c = x.strides
    steps = (n, y * stride[0], w * stride[1], y * dilation[0], w * dilation[1], c)
    shape = (x.shape[0], out_y, out_x, *kernel, x.shape[3])
    return as_strided(x, shape, steps, writeable=False)


def convolve(
    x: Array,
    weights: Array,
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Array:
    """Return the sums [N, out height, out width, O] of a padded image with OHWI weights.

    Both arrays are of one type that holds every sum. Where the image has more channels than the
    weights, output channels form groups which see their own part of them.
    """
    outputs, height, width, depth = weights.shape
    groups = x.shape[3] // depth
    view = windows(x, (height, width), stride, dilation)
    # [group, inside kernel and depth, output of the group]; BLAS takes it transposed as it is
    matrix = weights.reshape(groups, outputs // groups, -1).transpose(0, 2, 1)
    batch, rows, columns = view.shape[:3]
    out = np.empty((batch, rows, columns, outputs), x.dtype)
    per_row = max(1, columns * height * width * x.shape[3])
    step = max(1, _PATCH_ELEMENTS // per_row)
    for image in range(batch):
        for row in range(0, rows, step):
            part = view[image, row : row + step]
            out[image, row : row + step] = _products(part, matrix)
    return out


def _products(patches: Array, matrix: Array) -> Array:
    """Return [rows, columns, O] for patches [rows, columns, kh, kw, C], weights [G, K, O / G]."""
    rows, columns, height, width, channels = patches.shape
    groups, inside, outputs = matrix.shape
    if groups == 1:
        flat: Array = patches.reshape(rows * columns, inside) @ matrix[0]
        return flat.reshape(rows, columns, outputs)
    split = patches.reshape(rows * columns, height * width, groups, channels // groups)
    by_group = split.transpose(2, 0, 1, 3).reshape(groups, rows * columns, inside)
    products: Array = by_group @ matrix
    return products.transpose(1, 0, 2).reshape(rows, columns, groups * outputs)


def convolve_depthwise(
    x: Array,
    weights: Array,
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Array:
    """Return the sums [N, out height, out width, C * multiplier] of a padded image.

    Weights are [1, kh, kw, C * multiplier] of the image's type; one pass for each tap.
    """
    _, height, width, outputs = weights.shape
    multiplier = outputs // x.shape[3]
    if multiplier > 1:
        x = np.repeat(x, multiplier, axis=3)
    view = windows(x, (height, width), stride, dilation)
    total = np.zeros((*view.shape[:3], outputs), x.dtype)
    product = np.empty_like(total)
    for ky in range(height):
        for kx in range(width):
            np.multiply(view[:, :, :, ky, kx], weights[0, ky, kx], out=product)
            total += product
    return total


def convolve_transposed(
    x: Array,
    weights: Array,
    stride: tuple[int, int],
    origin: tuple[int, int],
    size: tuple[int, int],
) -> Array:
    """Return the sums [N, *size, O]: input (i, j) adds to outputs from (i, j) * stride - origin on.

    Weights are OHWI of the image's type; one matrix product for each tap.
    """
    outputs, height, width, depth = weights.shape
    batch, rows, columns, _ = x.shape
    reach = ((rows - 1) * stride[0] + height, (columns - 1) * stride[1] + width)
    canvas = [max(r, o + s) for r, o, s in zip(reach, origin, size, strict=True)]
    total = np.zeros((batch, canvas[0], canvas[1], outputs), x.dtype)
    flat = x.reshape(-1, depth)
    for ky in range(height):
        for kx in range(width):
            part = (flat @ weights[:, ky, kx].T).reshape(batch, rows, columns, outputs)
            bottom, right = ky + (rows - 1) * stride[0] + 1, kx + (columns - 1) * stride[1] + 1
            total[:, ky : bottom : stride[0], kx : right : stride[1]] += part
    return total[:, origin[0] : origin[0] + size[0], origin[1] : origin[1] + size[1]]
