"""Additions in every wiring, and networks of random operations, on the strict simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon_rocket.context import RocketContext
from tests.rocket_grid import (
    ACTIVATIONS,
    DEVICE,
    Random,
    blocks,
    channel_count,
    check,
    check_block,
    convolved,
    described,
    open_simulator,
    pick,
    quantization,
)


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


class Net:
    """Values of one shape, and operations that keep it."""

    def __init__(self, random: Random, name: str) -> None:
        self.random, self.builder = random, Builder(name)
        self.dtype = pick(random, "u8", "i8")
        size = int(pick(random, 1, 2, 3, 4, 5, 8, 9, 20))
        images = int(pick(random, 1, 1, 1, 2))
        self.shape = (images, size, int(pick(random, size, 3, 8)), channel_count(random))

    def input(self) -> Value:
        how = quantization(self.random, self.dtype)
        return self.builder.input("x", self.dtype, self.shape, **how)

    def conv(self, x: Value, activation: str = "none") -> Value:
        channels, size = self.shape[3], int(pick(self.random, 1, 1, 3))
        return convolved(
            self.builder, self.random, x, (channels, size, size, channels), False,
            padding="same", activation=activation,
        )  # fmt: skip

    def depthwise(self, x: Value, activation: str = "none") -> Value:
        shape = (1, 3, 3, self.shape[3])
        return convolved(
            self.builder, self.random, x, shape, True, padding="same", activation=activation
        )

    def add(self, a: Value, b: Value, activation: str = "none") -> Value:
        largest = max(a.type.scale, b.type.scale)
        how = quantization(self.random, self.dtype)
        how["scale"] = largest * float(self.random.uniform(0.3, 2.5))
        return self.builder.add(a, b, activation=activation, **how)

    def done(self, *outputs: Value) -> Graph:
        self.builder.output(*outputs)
        return self.builder.build()


def residual(net: Net) -> Graph:
    x = net.input()
    return net.done(net.add(net.conv(x), x))


def residual_turned(net: Net) -> Graph:
    x = net.input()
    return net.done(net.add(x, net.conv(x)))


def residual_clamped(net: Net) -> Graph:
    x = net.input()
    return net.done(net.add(net.conv(x, "relu6"), x, "relu"))


def residual_depthwise(net: Net) -> Graph:
    x = net.input()
    return net.done(net.add(net.depthwise(x), x, "relu6"))


def two_inputs(net: Net) -> Graph:
    return net.done(net.add(net.input(), net.input(), pick(net.random, *ACTIVATIONS)))


def doubled(net: Net) -> Graph:
    x = net.input()
    return net.done(net.add(x, x))


def doubled_convolution(net: Net) -> Graph:
    y = net.conv(net.input())
    return net.done(net.add(y, y))


def earlier_host(net: Net) -> Graph:
    """The first operand is made before the second."""
    x = net.input()
    a = net.conv(x)
    return net.done(net.add(a, net.conv(x, "relu")))


def later_host(net: Net) -> Graph:
    x = net.input()
    b = net.conv(x)
    return net.done(net.add(net.conv(x), b))


def needed_elsewhere(net: Net) -> Graph:
    x = net.input()
    a = net.conv(x)
    total = net.add(a, x)
    return net.done(total, net.conv(a))


def convolution_is_output(net: Net) -> Graph:
    x = net.input()
    a = net.conv(x)
    return net.done(net.add(a, x), a)


def chain(net: Net) -> Graph:
    x = net.input()
    first = net.add(net.conv(x), x)
    second = net.add(net.conv(first), first, "relu")
    return net.done(net.add(second, x))


def sums_of_sums(net: Net) -> Graph:
    x, y = net.input(), net.input()
    return net.done(net.add(net.add(x, y), net.add(y, net.conv(x))))


def shared_operand(net: Net) -> Graph:
    x = net.input()
    b = net.conv(x)
    return net.done(net.add(net.conv(x), b), net.add(net.depthwise(x), b))


def clamped_at_one(net: Net) -> Graph:
    x = net.input()
    return net.done(net.add(net.conv(x), x, "relu_n1_to_1"))


WIRINGS: tuple[Callable[[Net], Graph], ...] = (
    residual, residual_turned, residual_clamped, residual_depthwise, two_inputs, doubled,
    doubled_convolution, earlier_host, later_host, needed_elsewhere, convolution_is_output, chain,
    sums_of_sums, shared_operand, clamped_at_one,
)  # fmt: skip


@pytest.mark.parametrize("wiring", WIRINGS, ids=lambda w: w.__name__)
def test_addition(context: RocketContext, wiring: Callable[[Net], Graph]) -> None:
    check_block(context, lambda random: wiring(Net(random, "addition")), 1, 10)


def network(random: Random) -> Graph:
    """Any operations in any order, any of their results outputs."""
    net = Net(random, "network")
    values = [net.input() for _ in range(int(random.integers(1, 3)))]
    made = []
    for _ in range(int(random.integers(2, 9))):
        activation = pick(random, *ACTIVATIONS)
        kind = pick(random, net.conv, net.depthwise, net.add, net.add)
        operands = [values[int(random.integers(len(values)))] for _ in range(2)]
        made.append(
            kind(*operands, activation) if kind == net.add else kind(operands[0], activation)
        )
        values.append(made[-1])
    used = {v for op in net.builder._ops for v in op.inputs_present}
    return net.done(*(v for v in made if v not in used or random.random() < 0.1))


@pytest.mark.parametrize("block", blocks(4))
def test_network(context: RocketContext, block: int) -> None:
    check_block(context, network, block)


def test_no_buffer_is_named_twice() -> None:
    """The kernel drops a job that does."""
    for number, wiring in enumerate(WIRINGS):
        program = DEVICE.compile(wiring(Net(np.random.default_rng(number), "jobs")))
        for job in program.jobs:
            named = [*job.reads, *job.writes]
            assert len(named) == len(set(named)), wiring.__name__


def test_a_convolution_is_not_run_twice() -> None:
    """Fused, a residual block is one operation; where the result is needed, two."""
    graphs = [w(Net(np.random.default_rng(3), "count")) for w in (residual, needed_elsewhere)]
    fused = [DEVICE.compile(g).statistics["operations"] for g in graphs]
    assert fused[0] in (1, 2)
    assert fused[1] == len(graphs[1].ops)


def test_wide_scales(context: RocketContext) -> None:
    """Operands whose scales are far apart: the converter takes either, as it can."""
    for number, ratio in enumerate((1e-4, 1e-2, 0.3, 3.0, 300.0, 3e4)):
        random = np.random.default_rng(number)
        b = Builder("wide scales")
        x = b.input("x", "u8", (1, 4, 4, 17), 1.0, 100)
        y = b.input("y", "u8", (1, 4, 4, 17), ratio, 7)
        b.output(b.add(x, y, scale=max(1.0, ratio) * 1.5, zero_point=80))
        graph = b.build()
        assert check(context, graph, random) == "", described(graph)


LARGE = {
    "bands": (120, 130, 32),  # several tasks, one above the other
    "pieces": (9, 200, 1000),  # one row each, side by side
    "wider than the fields": (4, 2100, 16),
    "higher than the fields": (2100, 3, 17),
    "one column": (700, 1, 64),
    "one channel": (130, 140, 1),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("dtype", ["u8", "i8"])
def test_additions_in_several_tasks(context: RocketContext, name: str, dtype: str) -> None:
    """The operand's addresses follow the tiles."""
    high, wide, channels = LARGE[name]
    random = np.random.default_rng(high)
    b = Builder("large addition")
    x = b.input("x", dtype, (1, high, wide, channels), **quantization(random, dtype))
    y = convolved(b, random, x, (1, 3, 3, channels), True, padding="same")
    z = b.input("z", dtype, (1, high, wide, channels), y.type.scale, 9)
    b.output(b.add(y, z, scale=y.type.scale * 1.3, zero_point=3, activation="relu"))
    graph = b.build()
    assert check(context, graph, random) == "", described(graph)
    assert DEVICE.compile(graph).statistics["operations"] == 1


def test_a_one_channel_input_too_large_for_rows(context: RocketContext) -> None:
    """DATA_ENTRIES counts the whole map in that mode and has 14 bits."""
    for size in (100, 200):
        random = np.random.default_rng(size)
        b = Builder("large one channel")
        x = b.input("x", "u8", (1, size, size, 1), **quantization(random, "u8"))
        b.output(convolved(b, random, x, (7, 5, 5, 1), False, padding="same"))
        graph = b.build()
        assert check(context, graph, random) == "", described(graph)
        layout = DEVICE.compile(graph).input_ports[0].layout
        assert layout == ("rows" if size == 100 else "surfaces")
