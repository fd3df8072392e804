"""Operations that the NPU leaves to the host, by the model of time."""

from __future__ import annotations

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon_etnaviv import timing
from teflon_etnaviv.device import EtnavivDevice
from tests.etnaviv.parity import CHIPS


def convolved(b: Builder, x: Value) -> Value:
    weights = np.ones((16, 3, 3, x.shape[3]), np.uint8)
    return b.conv2d(x, weights, padding="same", weight_scale=0.01, scale=0.1, zero_point=3)


def model(size: int) -> Graph:
    """A product of two inputs, a convolution, a table."""
    b = Builder("ends")
    x, y = (b.input(name, "u8", (1, size, size, 16), 0.1, 3) for name in "xy")
    product = b.mul(x, y, scale=1.0, zero_point=3)
    b.output(b.relu(convolved(b, product), scale=0.1, zero_point=3))
    return b.build()


@pytest.mark.parametrize("chip", CHIPS)
def test_dear_ends_go_to_the_host(chip: str) -> None:
    device, graph = EtnavivDevice(chip), model(64)
    product, convolution, relu = graph.ops
    left = device.leave(graph, graph)
    assert convolution not in left
    assert relu not in left  # a table is read and written once, as the host's copy is
    costs = timing.costs(device.compile(graph.subgraph([product])))
    npu = sum(cost.total_ms for cost in costs if cost.engine != "host")
    copies = sum(cost.total_ms for cost in costs if cost.engine == "host")
    assert (product in left) is (npu > copies)
    for reason in left.values():
        assert reason.startswith("at the end of a partition it would take the NPU ")


@pytest.mark.parametrize("chip", CHIPS)
def test_partitions_without_multiplications(chip: str) -> None:
    """They stay in models that have no others."""
    b = Builder("table")
    x = b.input("x", "u8", (1, 8, 8, 16), 0.1, 3)
    y = b.relu(x, scale=0.1, zero_point=3)
    b.output(y)
    alone = b.build()
    whole = model(8)
    device = EtnavivDevice(chip)
    assert device.leave(alone, alone) == {}
    (reason,) = device.leave(alone, whole).values()
    assert reason.startswith("apart from the convolutions it would take ")


def test_mesa_leaves_nothing() -> None:
    graph = model(8)
    assert EtnavivDevice("a311d", {"strategy": "mesa"}).leave(graph, graph) == {}
