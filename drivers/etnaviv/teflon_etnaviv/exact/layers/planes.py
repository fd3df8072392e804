"""Layers that do the same to every channel: kernels of a few numbers, over channels in rows.

Where all channels get the same kernel, planes that lie one behind the other are one tall image, so
a layer needs few planes however many channels there are. A window that reaches over a plane's last
row reads the next channel: what it yields is not used.

Ref: docs/hardware/etnaviv.md sections 3.1 (field widths), 4.2, 8.2
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.layers.convolution import depthwise
from teflon_etnaviv.nn.layer import Layer, Weights
from teflon_etnaviv.nn.weights import grown

Kernel = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """The bytes of an image as so many planes of rows and columns."""

    planes: int
    rows: int
    columns: int


def cut(height: int, width: int, channels: int, chip: Chip) -> Cut | None:
    """Return the planes that the rows of all channels are dealt out to; None where they are too
    many for the fields.

    Cores that take one plane for each kernel get one each where that is possible. Others would
    multiply with the zeros of all other planes, so there are as few planes as possible.
    """
    fits = [
        Cut(planes, channels // planes * height, width)
        for planes in range(1, channels + 1)
        if channels % planes == 0
        and channels // planes * height <= chip.nn_image_max
        and width <= chip.nn_image_max
    ]
    if not fits or fits[0].planes > chip.nn_planes_max:
        return None
    enough = [c for c in fits if c.planes >= chip.nn_core_count]
    return enough[0] if chip.depthwise_mode and enough else fits[0]


def same_for_all(
    shape: Cut,
    kernel: Kernel,
    scale: float,
    chip: Chip,
    *,
    zeros: tuple[int, int],
    columns: int | None = None,
    bias: int = 0,
    relu: bool = False,
    title: str = "",
) -> Layer:
    """Return the layer that applies a kernel to every plane, the first tap on each pixel itself.

    kernel: [rows, columns] of whole numbers that lie within a byte of one another. zeros: zero
    points of input and output. columns: how many are computed of each row, by default all.
    """
    zero = max(-int(kernel.min()), 0)
    taps = np.ascontiguousarray(kernel + zero).astype(np.uint8).reshape(-1, 1)
    plain = Layer(
        height=shape.rows,
        width=shape.columns,
        in_channels=shape.planes,
        planes=shape.planes,
        out_height=shape.rows,
        out_width=columns or shape.columns,
        out_channels=shape.planes,
        kernel_height=kernel.shape[0],
        kernel_width=kernel.shape[1],
        in_zero=zeros[0],
        out_zero=zeros[1],
        scale=np.float32(scale),
        weights=Weights(np.repeat(taps, shape.planes, axis=1).reshape(-1), zero, zero),
        bias=np.full(shape.planes, bias, np.int32),
        pointwise=kernel.size == 1,
        relu=relu,
        title=title,
    )
    layer = depthwise(plain, chip)
    return grown(layer) if layer.taps == 1 and shape.planes == 1 else layer


def halved(layer: Layer, *, largest: bool) -> Layer:
    """Return a layer that keeps one of each 2x2 results: the largest, or the first."""
    return replace(
        layer,
        out_height=layer.out_height // 2,
        out_width=layer.out_width // 2,
        stride=2,
        largest=largest,
        first_pixel=not largest,
    )


def sum_of_two(shape: Cut, title: str) -> Layer:
    """Return the layer that adds two images of bytes whose sum is a byte; one lies behind the
    other.
    """
    planes = shape.planes
    weights = np.zeros((planes, 2 * planes), np.uint8)
    numbers = np.arange(planes)
    weights[numbers, numbers] = weights[numbers, planes + numbers] = 1
    return Layer(
        height=shape.rows,
        width=shape.columns,
        in_channels=2 * planes,
        planes=2 * planes,
        out_height=shape.rows,
        out_width=shape.columns,
        out_channels=planes,
        kernel_height=1,
        kernel_width=1,
        in_zero=0,
        out_zero=0,
        scale=np.float32(1),
        weights=Weights(weights.reshape(-1), 0, 0),
        bias=np.zeros(planes, np.int32),
        pointwise=True,
        title=title,
    )
