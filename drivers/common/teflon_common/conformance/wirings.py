"""Graphs with additions in many wirings: which operation makes an operand, what else reads it."""

from __future__ import annotations

from collections.abc import Callable

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon_common.conformance.graphs import ACTIVATIONS, Random, convolved, pick, quantization

Shape = tuple[int, int, int, int]


class Net:
    """Builds a graph whose values all have the same shape."""

    def __init__(self, random: Random, name: str, dtype: str, shape: Shape) -> None:
        self.random, self.builder = random, Builder(name)
        self.dtype, self.shape = dtype, shape

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
    """Add a convolution's result to its input."""
    x = net.input()
    return net.done(net.add(net.conv(x), x))


def residual_turned(net: Net) -> Graph:
    """The same with the operands in the other order."""
    x = net.input()
    return net.done(net.add(x, net.conv(x)))


def residual_clamped(net: Net) -> Graph:
    """The convolution and the addition both have an activation."""
    x = net.input()
    return net.done(net.add(net.conv(x, "relu6"), x, "relu"))


def residual_depthwise(net: Net) -> Graph:
    """Add a depthwise convolution's result to its input."""
    x = net.input()
    return net.done(net.add(net.depthwise(x), x, "relu6"))


def two_inputs(net: Net) -> Graph:
    """One addition of two inputs."""
    return net.done(net.add(net.input(), net.input(), pick(net.random, *ACTIVATIONS)))


def doubled(net: Net) -> Graph:
    """Add an input to itself."""
    x = net.input()
    return net.done(net.add(x, x))


def doubled_convolution(net: Net) -> Graph:
    """Add a convolution's result to itself."""
    y = net.conv(net.input())
    return net.done(net.add(y, y))


def earlier_host(net: Net) -> Graph:
    """Add two convolutions; the first operand is computed first."""
    x = net.input()
    a = net.conv(x)
    return net.done(net.add(a, net.conv(x, "relu")))


def later_host(net: Net) -> Graph:
    """Add two convolutions; the second operand is computed first."""
    x = net.input()
    b = net.conv(x)
    return net.done(net.add(net.conv(x), b))


def needed_elsewhere(net: Net) -> Graph:
    """Another convolution reads the operand too."""
    x = net.input()
    a = net.conv(x)
    total = net.add(a, x)
    return net.done(total, net.conv(a))


def convolution_is_output(net: Net) -> Graph:
    """The operand is also an output."""
    x = net.input()
    a = net.conv(x)
    return net.done(net.add(a, x), a)


def chain(net: Net) -> Graph:
    """Several residual blocks, one after the other."""
    x = net.input()
    first = net.add(net.conv(x), x)
    second = net.add(net.conv(first), first, "relu")
    return net.done(net.add(second, x))


def sums_of_sums(net: Net) -> Graph:
    """Add the results of additions."""
    x, y = net.input(), net.input()
    return net.done(net.add(net.add(x, y), net.add(y, net.conv(x))))


def shared_operand(net: Net) -> Graph:
    """Two additions read the same operand."""
    x = net.input()
    b = net.conv(x)
    return net.done(net.add(net.conv(x), b), net.add(net.depthwise(x), b))


def clamped_at_one(net: Net) -> Graph:
    """The addition has an activation that limits its result on both sides."""
    x = net.input()
    return net.done(net.add(net.conv(x), x, "relu_n1_to_1"))


WIRINGS: tuple[Callable[[Net], Graph], ...] = (
    residual, residual_turned, residual_clamped, residual_depthwise, two_inputs, doubled,
    doubled_convolution, earlier_host, later_host, needed_elsewhere, convolution_is_output, chain,
    sums_of_sums, shared_operand, clamped_at_one,
)  # fmt: skip
