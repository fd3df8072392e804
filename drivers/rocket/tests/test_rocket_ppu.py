"""Pooling on the PPU, for a kernel that waits for its interrupts: option `pooling=ppu`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from teflon.errors import OptionError, SimulatorFault
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_common.fake_drm import FakeWinsys
from teflon_rocket import RocketDriver, teflon_driver
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext
from teflon_rocket.device import RocketDevice
from teflon_rocket.program import RocketProgram
from teflon_rocket.registers import PPU, PPU_RDMA, split_command
from teflon_rocket.simulator.kernel import RocketKernel
from teflon_rocket.timing import costs
from teflon_rocket.uapi import ALL_UNITS
from tests.paths import needs_shared
from tests.rocket import vendor
from tests.rocket.grid import Random, blocks, channel_count, pick, quantization, random_inputs
from tests.rocket.times import check_time

Compare = Callable[[str], None]
DEVICE = RocketDevice("rk3588", {"pooling": "ppu"})
ON_PPU = 0x60


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    kernel = RocketKernel(RK3588, asynchronous=False, waited=ALL_UNITS)
    with RocketContext(DEVICE, FakeWinsys(kernel)) as opened:
        yield opened


def lists(program: RocketProgram) -> Iterator[list[int]]:
    """The words of each command list."""
    for task in (task for job in program.jobs for task in job.tasks):
        data = program.buffers[task.buffer].data
        assert data is not None
        yield np.frombuffer(data, "<u8", task.count, task.offset).tolist()


def masks(graph: Graph) -> list[int]:
    """The units that each command list starts."""
    return [split_command(words[-1])[2] for words in lists(DEVICE.compile(graph))]


def check(context: RocketContext, graph: Graph, random: Random, most: int) -> None:
    loaded = context.load(DEVICE.compile(graph))
    try:
        (x,) = random_inputs(random, graph)
        (y,) = context.invoke(loaded, [x])
        check_time(loaded)
    finally:
        loaded.close()
    (wanted,) = graph.ops[0].evaluate(x)
    assert np.abs(y.astype(int) - wanted).max() <= most


def pool(random: Random, kind: str, most: int) -> Graph:
    b, dtype = Builder(kind), pick(random, "u8", "i8")
    kernel = int(random.integers(1, most)), int(random.integers(1, most))
    size = [int(random.integers(k, k + 9)) for k in kernel]
    if random.random() < 0.2:
        size[1] += int(pick(random, 60, 130, 300))
    images, channels = pick(random, 1, 1, 2), channel_count(random)
    x = b.input("x", dtype, (images, *size, channels), **quantization(random, dtype))
    stride = int(random.integers(1, 8)), int(random.integers(1, 8))
    padding = "valid" if kind == "average_pool2d" else pick(random, "same", "valid")
    b.output(getattr(b, kind)(x, kernel, stride=stride, padding=padding))
    return b.build()


@pytest.mark.parametrize("block", blocks(4))
def test_the_largest(context: RocketContext, block: int) -> None:
    for number in range(15):
        random = np.random.default_rng([block, number])
        graph = pool(random, "max_pool2d", 20)
        assert set(masks(graph)) == {ON_PPU}
        check(context, graph, random, 0)


@pytest.mark.parametrize("block", blocks(3))
def test_means(context: RocketContext, block: int) -> None:
    for number in range(15):
        random = np.random.default_rng([block, number])
        graph = pool(random, "average_pool2d", 8)
        assert set(masks(graph)) == {ON_PPU}
        check(context, graph, random, 1)


def some(kind: str, size: tuple[int, int, int, int], kernel: int, **how: object) -> Graph:
    b = Builder("pool")
    x = b.input("x", "i8", size, scale=0.1, zero_point=3)
    b.output(getattr(b, kind)(x, kernel, **how))
    return b.build()


@pytest.mark.parametrize(
    ("graph", "tasks"),
    [
        (some("max_pool2d", (1, 20, 20, 32), 5), 2),  # the vendor's pmax5s1p2
        (some("max_pool2d", (1, 20, 20, 32), 13), 4),  # pmax13p6
        (some("max_pool2d", (1, 12, 12, 32), 3, stride=3), 1),
        (some("max_pool2d", (1, 320, 320, 16), 3, stride=2), 3),  # pmax2huge
        (some("average_pool2d", (1, 14, 14, 32), 7, padding="valid"), 1),
    ],
)
def test_as_many_tasks_as_the_vendor_has(graph: Graph, tasks: int) -> None:
    assert masks(graph) == [ON_PPU] * tasks


VENDORS = [
    ("pmax3s1p1", "max_pool2d", 3, 1, (1, 1, 1, 1)),
    ("pmax3s3", "max_pool2d", 3, 3, 0),
    ("pmax5s1p2", "max_pool2d", 5, 1, (2, 2, 2, 2)),
    ("pmax13p6", "max_pool2d", 13, 1, (6, 6, 6, 6)),
    ("pmax3s2ceil", "max_pool2d", 3, 2, (0, 1, 0, 1)),
    ("pmax2big", "max_pool2d", 2, 2, 0),
    ("pmax2huge", "max_pool2d", 3, 2, (1, 1, 1, 1)),
    ("pavg3", "average_pool2d", 3, 1, 0),
    ("pavg3s3", "average_pool2d", 3, 3, 0),
    ("pavg7", "average_pool2d", 7, 1, 0),
]


@needs_shared
@pytest.mark.parametrize(("name", "kind", "kernel", "stride", "padding"), VENDORS)
def test_lists_are_the_vendors(
    name: str, kind: str, kernel: int, stride: int, padding: object
) -> None:
    """Word for word, but for addresses: short lists of the vendor's are made whole."""
    network = vendor.network(name)
    source, core = network.inputs[0], vendor.Core()
    b = Builder(name)
    _, channels, rows, columns = source.shape
    x = b.input("x", "i8", (1, rows, columns, channels), scale=0.1, zero_point=source.zero)
    b.output(getattr(b, kind)(x, kernel, stride=stride, padding=padding))
    program = DEVICE.compile(b.build())
    ours = [_values(words) for words in lists(program)]
    numbers = [number for step in vendor.steps(network, 1) for number in step.tasks]
    starts = [network.tasks[number].first for number in numbers]
    theirs = [_values(core.complete(vendor.ends(network.words, first))) for first in starts]
    assert ours == theirs


def _values(words: Sequence[int]) -> dict[tuple[int, int], int]:
    """What the words for the two units write, without addresses."""
    units = (PPU.target + 1, PPU_RDMA.target + 1)
    places = (PPU.DST_BASE_ADDR.offset, PPU_RDMA.RDMA_SRC_BASE_ADDR.offset)
    split = [split_command(int(word)) for word in words]
    return {(unit, at): v for unit, at, v in split if unit in units and at not in places}


@pytest.mark.parametrize(
    "graph",
    [
        some("max_pool2d", (1, 9, 9, 8), 3, activation="relu"),
        some("max_pool2d", (1, 40, 40, 8), 3, stride=8),
        some("average_pool2d", (1, 9, 9, 8), 3),
        some("average_pool2d", (1, 9, 9, 8), 8, padding="valid"),
    ],
)
def test_what_the_ppu_cannot_do_is_done_without(context: RocketContext, graph: Graph) -> None:
    assert ON_PPU not in masks(graph)
    check(context, graph, np.random.default_rng(0), 1)


def test_cost() -> None:
    program = DEVICE.compile(some("max_pool2d", (1, 20, 40, 32), 3))
    (cost,) = (c for c in costs(program) if c.engine == "npu")
    assert (cost.macs, cost.array_cycles) == (0, 0)
    assert cost.dram_written == 20 * 40 * 32
    commands = 8 * sum(task.count for job in program.jobs for task in job.tasks)
    assert cost.dram_read == 20 * (40 + 2) * 32 + commands  # two parts, two columns twice


def test_the_kernel_of_mainline_gives_up() -> None:
    """The program is refused where it would hang: on a kernel that waits for the DPU only."""
    kernel = RocketKernel(RK3588, asynchronous=False)
    with RocketContext(DEVICE, FakeWinsys(kernel)) as context:
        loaded = context.load(DEVICE.compile(some("max_pool2d", (1, 9, 9, 8), 3)))
        with pytest.raises(SimulatorFault, match=r"its units raise #c00, must raise a bit of #300"):
            context.invoke(loaded, [np.zeros((1, 9, 9, 8), np.int8)])


def test_the_option() -> None:
    driver = teflon_driver()
    assert isinstance(driver, RocketDriver)
    graph = some("max_pool2d", (1, 9, 9, 8), 3)
    x = np.random.default_rng(0).integers(-128, 128, (1, 9, 9, 8), np.int8)
    results = []
    for options in ({}, {"pooling": "ppu"}):
        with driver.simulate("rk3588", options) as context:
            program = context.device.compile(graph)
            assert ("PPU." in context.device.describe(program)) == bool(options)
            results += context.invoke(context.load(program), [x])
    np.testing.assert_array_equal(results[0], results[1])
    assert DEVICE.signature() != RocketDevice("rk3588").signature()
    with pytest.raises(OptionError, match="pooling=ppu is for strategy exact"):
        RocketDevice("rk3588", {"pooling": "ppu", "strategy": "mesa"})


@pytest.mark.parametrize("kind", ["max_pool2d", "average_pool2d"])
def test_list(kind: str, golden: Compare) -> None:
    graph = some(kind, (1, 6, 19, 20), 5, padding="valid")
    program = DEVICE.compile(graph)
    golden(DEVICE.describe(program))
