"""Programs as text: nothing in them changes unseen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.ir.types import Array
from teflon_rocket.device import RocketDevice

Compare = Callable[[str], None]


def some_weights(*shape: int) -> Array:
    """The same numbers everywhere: no random generator."""
    return (np.arange(int(np.prod(shape))).reshape(shape) * 37 % 251).astype(np.uint8)


def direct() -> Graph:
    """3x3, stride 2, ReLU6 with a zero point in the middle."""
    b = Builder("direct")
    x = b.input("x", "u8", (1, 9, 7, 20), 0.05, 120)
    b.output(
        b.conv2d(
            x, some_weights(24, 3, 3, 20), np.arange(24, dtype=np.int32), weight_scale=0.01,
            weight_zero_point=110, stride=(2, 1), padding="same", activation="relu6", scale=0.04,
            zero_point=100, name="y",
        )
    )  # fmt: skip
    return b.build()


def depthwise() -> Graph:
    """Two channels for each one: written twice first, then convolved."""
    b = Builder("depthwise")
    x = b.input("x", "u8", (1, 4, 4, 8), 0.05, 0)
    b.output(
        b.depthwise_conv2d(
            x, some_weights(1, 3, 3, 16), np.arange(16, dtype=np.int32), weight_scale=0.02,
            weight_zero_point=128, padding="valid", scale=0.2, zero_point=3, name="y",
        )
    )  # fmt: skip
    return b.build()


def residual() -> Graph:
    """A convolution with an addition fused into it, ReLU behind."""
    b = Builder("residual")
    x = b.input("x", "u8", (1, 5, 5, 16), 0.05, 128)
    y = b.conv2d(
        x, some_weights(16, 1, 1, 16), np.arange(16, dtype=np.int32), weight_scale=0.002,
        weight_zero_point=125, scale=0.05, zero_point=128, name="y",
    )  # fmt: skip
    b.output(b.add(y, x, scale=0.08, zero_point=10, activation="relu", name="sum"))
    return b.build()


def split() -> Graph:
    """Two tasks in one job, weights reused."""
    b = Builder("split")
    x = b.input("x", "u8", (1, 120, 120, 32), 0.05, 128)
    b.output(
        b.conv2d(
            x, some_weights(8, 3, 3, 32), np.arange(8, dtype=np.int32), weight_scale=0.002,
            weight_zero_point=125, scale=0.05, zero_point=128, padding="same", name="y",
        )
    )  # fmt: skip
    return b.build()


def maximum() -> Graph:
    """The larger of each element and the one below it."""
    b = Builder("maximum")
    x = b.input("x", "i8", (1, 6, 7, 24), 0.05, -3)
    b.output(b.max_pool2d(x, (2, 1), padding="same", name="y"))
    return b.build()


def average() -> Graph:
    """Means of nine elements, of six at the sides, of four in the corners."""
    b = Builder("average")
    x = b.input("x", "i8", (1, 4, 5, 16), 0.05, -3)
    b.output(b.average_pool2d(x, (3, 3), padding="same", name="y"))
    return b.build()


def joined() -> Graph:
    """A map twice as large, a convolution's result and a copied input beside each other."""
    b = Builder("joined")
    x, y = b.input("x", "u8", (1, 3, 4, 16), 0.05, 120), b.input("y", "u8", (1, 6, 8, 24), 0.1, 7)
    large = b.resize_nearest_neighbor(x, (6, 8), name="large")
    z = b.conv2d(
        y, some_weights(32, 1, 1, 24), weight_scale=0.01, weight_zero_point=110, scale=0.05,
        zero_point=120, name="z",
    )  # fmt: skip
    b.output(b.concatenation([large, z, y], scale=0.05, zero_point=120, name="all"))
    return b.build()


def interpolated() -> Graph:
    """Edges copied outwards, then a depthwise convolution for each of four places."""
    b = Builder("interpolated")
    x = b.input("x", "i8", (1, 3, 4, 24), 0.05, -3)
    b.output(b.resize_bilinear(x, (6, 8), half_pixel_centers=True, name="y"))
    return b.build()


def gate() -> Graph:
    """A difference with limits, times a value for each channel."""
    b = Builder("gate")
    x = b.input("x", "i8", (1, 3, 5, 24), 0.05, -3)
    y = b.input("y", "i8", (1, 3, 5, 24), 0.02, 7)
    each = b.input("each", "i8", (1, 1, 1, 24), 1 / 256, -128)
    between = b.sub(x, y, scale=0.06, zero_point=-20, activation="relu6", name="between")
    b.output(b.mul(between, each, scale=0.05, zero_point=-10, name="z"))
    return b.build()


@pytest.mark.parametrize("graph", [direct, depthwise, residual, split], ids=lambda g: g.__name__)
@pytest.mark.parametrize("strategy", ["exact", "mesa"])
def test_program(graph: Callable[[], Graph], strategy: str, golden: Compare) -> None:
    device = RocketDevice("rk3588", {"strategy": strategy})
    subgraph = graph()
    if refused := device.veto(subgraph):
        golden("\n".join(f"{op.title}: {reason}" for op, reason in refused.items()))
        return
    golden(device.describe(device.compile(subgraph)))


@pytest.mark.parametrize(
    "graph", [maximum, average, joined, interpolated, gate], ids=lambda g: g.__name__
)
def test_exact_program(graph: Callable[[], Graph], golden: Compare) -> None:
    device = RocketDevice("rk3588")
    golden(device.describe(device.compile(graph())))
