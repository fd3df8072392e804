"""Generated single operations: compiled by strategy `exact`, run on the strict simulator, compared
with the IR's own arithmetic. The greatest difference allowed is one step.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_rocket.context import RocketContext
from tests.rocket.grid import (
    ACTIVATIONS,
    Random,
    blocks,
    channel_count,
    check_block,
    convolved,
    image,
    kernel_size,
    open_simulator,
    pick,
    quantization,
    reach,
    result,
    weights,
    window,
)


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


def direct(random: Random) -> Graph:
    """CONV_2D."""
    dtype, kernel = pick(random, "u8", "i8"), kernel_size(random)
    inside, outside = channel_count(random), channel_count(random)
    if kernel[0] * kernel[1] * inside * outside > 150_000:
        outside = 5
    b, how = Builder("direct"), window(random, kernel)
    size = image(random, reach(kernel, how["dilation"]), inside)
    x = b.input("x", dtype, size, **quantization(random, dtype))
    b.output(convolved(b, random, x, (outside, *kernel, inside), False, **how))
    return b.build()


def depthwise(random: Random) -> Graph:
    """DEPTHWISE_CONV_2D with any multiplier."""
    dtype, kernel = pick(random, "u8", "i8"), kernel_size(random)
    inside, times = channel_count(random), int(pick(random, 1, 1, 1, 2, 3, 4))
    b, how = Builder("depthwise"), window(random, kernel)
    size = image(random, reach(kernel, how["dilation"]), inside)
    x = b.input("x", dtype, size, **quantization(random, dtype))
    b.output(convolved(b, random, x, (1, *kernel, inside * times), True, **how))
    return b.build()


def matrix(random: Random) -> Graph:
    """FULLY_CONNECTED on rows, on one pixel, on a whole map."""
    dtype, outside = pick(random, "u8", "i8"), channel_count(random)
    shape = pick(random, (1, 33), (3, 40), (1, 1, 1, 64), (1, 3, 5, 17), (1, 4, 4, 2))
    terms = int(np.prod(shape[1:]))
    b = Builder("matrix")
    x = b.input("x", dtype, shape, **quantization(random, dtype))
    data, scaled = weights(random, dtype, (outside, terms))
    how = result(random, dtype, x.type.scale * scaled["weight_scale"], terms)
    b.output(b.fully_connected(x, data, **scaled, **how, activation=pick(random, *ACTIVATIONS)))
    return b.build()


def large(random: Random) -> Graph:
    """Maps that need several tasks, by rows or by pieces of rows."""
    dtype, size = pick(random, "u8", "i8"), int(pick(random, 1, 3, 5))
    inside = int(pick(random, 3, 100, 256, 512)) if size < 5 else int(pick(random, 3, 100, 256))
    wide = int(pick(random, 7, 40, 90)) if inside > 100 else int(pick(random, 150, 260))
    high = int(random.integers(size, size + 20)) if inside > 100 else int(pick(random, 60, 130))
    separate = random.random() < 0.4
    outside = inside if separate else int(pick(random, 2, 24))
    b = Builder("large")
    x = b.input("x", dtype, (1, high, wide, inside), **quantization(random, dtype))
    shape = (1, size, size, inside) if separate else (outside, size, size, inside)
    how = {**window(random, (size, size)), "activation": "none", "dilation": (1, 1)}
    b.output(convolved(b, random, x, shape, separate, **how))
    return b.build()


@pytest.mark.parametrize("block", blocks(20))
def test_direct(context: RocketContext, block: int) -> None:
    check_block(context, direct, block)


@pytest.mark.parametrize("block", blocks(10))
def test_depthwise(context: RocketContext, block: int) -> None:
    check_block(context, depthwise, block)


@pytest.mark.parametrize("block", blocks(4))
def test_matrix(context: RocketContext, block: int) -> None:
    check_block(context, matrix, block)


@pytest.mark.parametrize("block", blocks(2))
def test_large(context: RocketContext, block: int) -> None:
    check_block(context, large, block)
