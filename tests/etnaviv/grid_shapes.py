"""Generated poolings, means, and convolutions of all shapes for the etnaviv driver."""

from __future__ import annotations

from typing import Any

import numpy as np

from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array
from teflon_common.conformance import graphs
from teflon_common.conformance.graphs import ACTIVATIONS
from tests.etnaviv.grid import start
from tests.rocket.grid import Case, Random, explicit, pick, quantization


def _channels(random: Random) -> int:
    return int(pick(random, 1, 2, 3, 5, 8, 9, 16, 24, 40))


def _sizes(random: Random, least: tuple[int, int], more: int = 14) -> tuple[int, int]:
    high, wide = (int(random.integers(n, n + more)) for n in least)
    return high, wide


def _window(random: Random, kernel: tuple[int, int], most: int) -> dict[str, Any]:
    how = pick(random, "same", "valid", "explicit")
    return {
        "stride": (int(random.integers(1, most)), int(random.integers(1, most))),
        "padding": explicit(random, kernel) if how == "explicit" else how,
    }


def _kernel(random: Random, most: int) -> tuple[int, int]:
    size = int(random.integers(1, most))
    return (size, size) if random.random() < 0.6 else (size, int(random.integers(1, most)))


def largest(random: Random) -> Graph:
    """Largest elements of windows, which overlap, reach over the edge, or are the whole map."""
    kernel, channels = _kernel(random, 15), _channels(random)
    size = kernel if random.random() < 0.2 else _sizes(random, kernel)
    b, x = start(random, "largest", (pick(random, 1, 1, 1, 2), *size, channels))
    how = _window(random, kernel, 5)
    if random.random() < 0.3:
        how["stride"] = pick(random, 2, 4)
    how["activation"] = pick(random, *ACTIVATIONS)
    b.output(b.max_pool2d(x, kernel, **how))
    return b.build()


def averaged(random: Random) -> Graph:
    """Means of windows, which overlap, reach over the edge, or are the whole map."""
    kernel, channels = _kernel(random, 10), _channels(random)
    size = kernel
    if random.random() < 0.2:
        kernel = size = _sizes(random, (11, 11), 40)
    elif random.random() < 0.8:
        size = _sizes(random, kernel)
    b, x = start(random, "average", (pick(random, 1, 1, 1, 2), *size, channels))
    inside = {"stride": 1, "padding": "valid"}
    how = inside if size == kernel else _window(random, kernel, 5)
    how["activation"] = pick(random, *ACTIVATIONS)
    b.output(b.average_pool2d(x, kernel, **how))
    return b.build()


def reduced(random: Random) -> Graph:
    """Means over rows, columns or both, with another quantisation."""
    shape = (pick(random, 1, 1, 2), *_sizes(random, (1, 1), 50), _channels(random))
    b, x = start(random, "mean", shape)
    found = quantization(random, x.type.dtype.value)
    found["scale"] = x.type.scale / float(random.uniform(0.3, 1.9))
    axes = pick(random, (1, 2), (1, 2), (1,), (2,))
    b.output(b.mean(x, axes, keep_dims=bool(random.integers(2)), **found))
    return b.build()


def _weights(
    random: Random, x: Value, shape: tuple[int, ...], terms: int, channels: int
) -> tuple[Array, dict[str, Any], dict[str, Any]]:
    """Return weights with their quantisation, and that of the result."""
    each = channels if x.type.dtype.value == "i8" and random.random() < 0.5 else 0
    data, scaled = graphs.weights(random, x.type.dtype.value, shape, terms, each)
    return data, scaled, graphs.result(random, x, scaled, terms)


def shaped(random: Random) -> Graph:
    """Convolutions with dilation, any strides, groups, and kernels of many elements."""
    kernel = _kernel(random, pick(random, 4, 4, 8, 20))
    dilation = _kernel(random, 8) if max(kernel) < 5 and random.random() < 0.5 else (1, 1)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    groups, depth = (int(pick(random, *n)) for n in ((1, 1, 2, 4), (1, 2, 3, 8)))
    image = (pick(random, 1, 1, 1, 2), *_sizes(random, (reach[0], reach[1])), groups * depth)
    b, x = start(random, "convolution of any shape", image)
    how = _window(random, kernel, 5 if dilation == (1, 1) else pick(random, 2, 2, 4))
    depthwise, terms = random.random() < 0.3, kernel[0] * kernel[1]
    channels = groups * int(random.integers(1, 6))
    shape = (channels, *kernel, depth)
    if depthwise:
        channels = x.shape[3] * pick(random, 1, 1, 2)
        shape = (1, *kernel, channels)
    terms *= 1 if depthwise else depth
    data, scaled, result = _weights(random, x, shape, terms, channels)
    bias = random.integers(-2000, 2000, channels, np.int32)
    add = b.depthwise_conv2d if depthwise else b.conv2d
    how["activation"] = pick(random, *ACTIVATIONS)
    b.output(add(x, data, bias, dilation=dilation, **scaled, **result, **how))
    return b.build()


def transposed(random: Random) -> Graph:
    """Transposed convolutions: kernels larger and smaller than their strides."""
    stride, kernel = _kernel(random, 5), _kernel(random, 7)
    high, wide = (int(random.integers(1, 9)) for _ in "hw")
    padding = pick(random, "same", "valid")
    size = high * stride[0], wide * stride[1]
    if padding == "valid":
        size = (high - 1) * stride[0] + kernel[0], (wide - 1) * stride[1] + kernel[1]
    inputs, outputs = _channels(random), int(random.integers(1, 7))
    b, x = start(random, "transposed convolution", (pick(random, 1, 1, 2), high, wide, inputs))
    shape = (outputs, *kernel, inputs)
    data, scaled, result = _weights(random, x, shape, int(np.prod(shape[1:])), outputs)
    bias = random.integers(-2000, 2000, outputs, np.int32)
    b.output(b.transpose_conv(
        x, data, bias, size=size, stride=stride, padding=padding, **scaled, **result
    ))  # fmt: skip
    return b.build()


def rows(random: Random) -> Graph:
    """Fully connected layers of several rows."""
    inputs, outputs = int(pick(random, 1, 2, 7, 16, 49, 128, 300)), _channels(random)
    shape = pick(random, (2,), (5,), (1, 7), (3, 5), (2, 3, 4))
    b, x = start(random, "fully connected rows", (*shape, inputs))
    data, scaled, result = _weights(random, x, (outputs, inputs), inputs, outputs)
    keep = bool(random.integers(2))
    b.output(b.fully_connected(x, data, keep_num_dims=keep, **scaled, **result))
    return b.build()


def chained(random: Random) -> Graph:
    """Channels in any order, sorted by scale, go through poolings into the next convolution."""
    channels = int(pick(random, 8, 16, 24))
    batch = pick(random, 1, 1, 2)
    b, x = start(random, "chain", (batch, *_sizes(random, (9, 9)), channels))
    shape = (channels, 3, 3, channels)
    data, scaled, result = _weights(random, x, shape, int(np.prod(shape[1:])), channels)
    y = b.conv2d(x, data, padding="same", **scaled, **result)
    pool = pick(random, b.max_pool2d, b.average_pool2d)
    y = pool(
        y, pick(random, 2, 3), stride=pick(random, 1, 2), padding=pick(random, "same", "valid")
    )
    data, scaled, result = _weights(random, y, (1, 3, 3, channels), 9, channels)
    y = b.depthwise_conv2d(y, data, padding="same", stride=(2, 2), **scaled, **result)
    b.output(y)
    y = b.mean(y, scale=y.type.scale, zero_point=y.type.zero_point)
    data, scaled, result = _weights(random, y, (5, channels), channels, 5)
    b.output(b.fully_connected(y, data, **scaled, **result))
    return b.build()


CASES: dict[str, Case] = {
    "largest": largest, "average": averaged, "mean": reduced, "shape": shaped,
    "transposed": transposed, "rows": rows, "chain": chained,
}  # fmt: skip
