"""Additions in every wiring, and networks of random operations, on the strict simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_common.conformance.wirings import WIRINGS, Net, needed_elsewhere, residual
from teflon_rocket.context import RocketContext
from teflon_rocket.registers import CNA
from teflon_rocket.text.commands import decode
from tests.rocket.grid import (
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


def net_of(random: Random, name: str) -> Net:
    """Return a net of any type and shape."""
    dtype = pick(random, "u8", "i8")
    size = int(pick(random, 1, 2, 3, 4, 5, 8, 9, 20))
    images, wide = int(pick(random, 1, 1, 1, 2)), int(pick(random, size, 3, 8))
    return Net(random, name, dtype, (images, size, wide, channel_count(random)))


@pytest.mark.parametrize("wiring", WIRINGS, ids=lambda w: w.__name__)
def test_addition(context: RocketContext, wiring: Callable[[Net], Graph]) -> None:
    check_block(context, lambda random: wiring(net_of(random, "addition")), 1, 10)


def network(random: Random) -> Graph:
    """Any operations in any order, any of their results outputs."""
    net = net_of(random, "network")
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
        program = DEVICE.compile(wiring(net_of(np.random.default_rng(number), "jobs")))
        for job in program.jobs:
            named = [*job.reads, *job.writes]
            assert len(named) == len(set(named)), wiring.__name__


def test_a_convolution_is_not_run_twice() -> None:
    """Fused, a residual block is one operation; where the result is needed, two."""
    graphs = [w(net_of(np.random.default_rng(3), "count")) for w in (residual, needed_elsewhere)]
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
    """DATA_ENTRIES counts the whole map in that mode and has 15 bits."""
    for size in (96, 208):
        random = np.random.default_rng(size)
        b = Builder("large one channel")
        x = b.input("x", "u8", (1, size, size, 1), **quantization(random, "u8"))
        b.output(convolved(b, random, x, (7, 5, 5, 1), False, padding="same"))
        graph = b.build()
        assert check(context, graph, random) == "", described(graph)
        layout = DEVICE.compile(graph).input_ports[0].layout
        assert layout == ("rows" if size == 96 else "surfaces")


@pytest.mark.parametrize(("width", "pitch"), [(10, 16), (28, 32), (32, 32), (300, 304)])
def test_one_channel_lies_as_rows_of_whole_16_bytes(
    context: RocketContext, width: int, pitch: int
) -> None:
    """The CNA takes whole 16 pixels for a row, whatever the stride says."""
    random = np.random.default_rng(width)
    b = Builder("one channel")
    x = b.input("x", "u8", (1, 12, width, 1), **quantization(random, "u8"))
    b.output(convolved(b, random, x, (7, 3, 3, 1), False, padding="same"))
    graph = b.build()
    assert check(context, graph, random) == "", described(graph)
    (port,) = DEVICE.compile(graph).input_ports
    assert (port.layout, port.row_pitch) == ("rows", pitch)


def test_pieces_of_rows_are_fetched_line_by_line(context: RocketContext) -> None:
    """More columns than the CNA counts: rows of a piece do not follow each other without gaps."""
    random = np.random.default_rng(3)
    b = Builder("wide")
    x = b.input("x", "u8", (1, 3, 2100, 17), **quantization(random, "u8"))
    b.output(convolved(b, random, x, (7, 3, 3, 17), False, padding="same"))
    graph = b.build()
    assert check(context, graph, random) == "", described(graph)
    buffers = [x.data for x in DEVICE.compile(graph).buffers if x.role == "regcmd" and x.data]
    written = [c.register for data in buffers for c in decode(data)]
    assert {r.GROUP_LINE_OFF for r in written if isinstance(r, CNA.CONV_CON1)} == {1}
    assert {r.LINE_STRIDE for r in written if isinstance(r, CNA.DMA_CON1)} == {2100}
    rest = [r.SURF_STRIDE for r in written if isinstance(r, CNA.DMA_CON2)]
    widths = [r.DMA_WIDTH for r in written if isinstance(r, CNA.FC_DATA_SIZE0)]
    assert len(rest) > 2
    assert {a + b for a, b in zip(rest, widths, strict=True)} == {3 * 2100}
