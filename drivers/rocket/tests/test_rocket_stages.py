"""Several cores share an inference: what must stay whole does, so that results have the same bits.

The device here has slow units and a host that costs nothing: all that can be cut is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon.pipe import HOST, Cost, Program
from teflon.run.multicore.choose import separable
from teflon.run.multicore.context import MulticoreContext
from teflon.run.multicore.device import MulticoreDevice
from teflon.run.multicore.timing import Assumptions
from teflon_rocket.context import RocketContext
from teflon_rocket.device import RocketDevice
from tests.rocket.grid import DEVICE, open_simulator, random_inputs
from tests.rocket.moved import Make, graph_of, image


class Slow(RocketDevice):
    """A chip on which an operation takes a thousand times as long."""

    def estimate(self, program: Program) -> list[Cost]:
        return [self._slow(cost) for cost in super().estimate(program)]

    def _slow(self, cost: Cost) -> Cost:
        times = {k: 0.0 if HOST in (k, cost.engine) else t for k, t in cost.milliseconds.items()}
        return dataclasses.replace(cost, milliseconds={k: 1000 * t for k, t in times.items()})


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


def per_channel(b: Builder) -> None:
    x = image(b, (1, 5, 7, 63))
    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (96, 1, 1, 63)).astype(np.int8)
    scales = [float(s) for s in random.uniform(0.001, 0.01, 96)]
    b.output(b.conv2d(x, weights, weight_scale=scales, scale=1.0, zero_point=3))


def one_scale(b: Builder) -> None:
    x = image(b, (1, 5, 7, 63))
    weights = np.random.default_rng(0).integers(-127, 128, (96, 1, 1, 63)).astype(np.int8)
    b.output(b.conv2d(x, weights, weight_scale=0.005, scale=1.0, zero_point=3))


def bent(b: Builder) -> None:
    x = image(b, (1, 30, 7, 16))
    weights = np.random.default_rng(0).integers(-9, 10, (16, 1, 1, 16)).astype(np.int8)
    y = b.conv2d(x, weights, weight_scale=0.02, scale=0.25, zero_point=3)
    b.output(b.leaky_relu(y, 0.25))


def averages(b: Builder) -> None:
    b.output(b.average_pool2d(image(b, (1, 48, 20, 16)), 7, padding="same"))


def small_averages(b: Builder) -> None:
    b.output(b.average_pool2d(image(b, (1, 48, 20, 16)), 3, padding="same"))


STAGES: dict[Make, set[str]] = {
    per_channel: {"whole", "rows"},
    one_scale: {"channels", "rows"},
    averages: {"whole"},
    small_averages: {"rows"},
}


@pytest.mark.parametrize("make", STAGES)
def test_the_same_bits(context: RocketContext, make: Make) -> None:
    graph = graph_of(make)
    inputs = random_inputs(np.random.default_rng(1), graph)
    with closing(context.load(DEVICE.compile(graph))) as loaded:
        wanted = context.invoke(loaded, inputs)
    several = MulticoreDevice(Slow("rk3588"), 3, Assumptions(copy=1e12, request=0.0))
    program = several.compile(graph)
    assert {stage.kind for stage in program.stages} <= STAGES[make]
    cores = MulticoreContext(several, [context] * 3)
    with closing(cores.load(program)) as divided:
        found = cores.invoke(divided, inputs)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_stage_begins_between_operations_that_are_done_together() -> None:
    graph = graph_of(bent)
    assert separable(graph, 1)
    assert not separable(graph, 1, DEVICE.absorbed(graph))
