"""Random networks of maps, and random ways to cut them into stages."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from teflon.ir import Graph, Value
from teflon.ir.builder import Builder
from teflon.ir.builder_base import Pads
from teflon.ir.lower import remove_dead
from teflon.run.multicore.choose import Choice, separable
from teflon.run.multicore.parts import Channels, Rows, cut_channels, cut_rows

Step = Callable[[st.DrawFn, Builder, list[Value]], Value]


def _weights(draw: st.DrawFn, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    random = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    kind = {"u8": np.uint8, "i8": np.int8}[dtype]
    info = np.iinfo(kind)
    return random.integers(info.min, info.max + 1, shape, kind)


def _padding(draw: st.DrawFn, high: int, wide: int) -> Pads:
    top, bottom, left, right = (draw(st.integers(0, n - 1)) for n in (high, high, wide, wide))
    known: list[Pads] = ["same", "same", "valid", (top, bottom, left, right)]
    return draw(st.sampled_from(known))


def _window(draw: st.DrawFn, x: Value, most: int = 7) -> dict[str, object]:
    """Kernel and the rest of a window that fits a map."""
    room = min(x.shape[1:3])
    kernel = (draw(st.integers(1, most)), draw(st.integers(1, 3)))
    dilation = draw(st.sampled_from([1, 1, 1, 2])) if max(kernel) <= 3 else 1
    reach = max((k - 1) * dilation + 1 for k in kernel)
    if reach > room:
        kernel, dilation = (1, 1), 1
    return {
        "kernel": kernel,
        "dilation": dilation,
        "stride": (draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(1, 2)))
        if x.shape[1] > 8
        else 1,
        "padding": _padding(draw, *kernel),
    }


def _bias(draw: st.DrawFn, count: int) -> np.ndarray:
    random = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    return random.integers(-2000, 2000, count, np.int32)


def conv2d(draw: st.DrawFn, b: Builder, known: list[Value]) -> Value:
    x = draw(st.sampled_from(known))
    how = _window(draw, x)
    kernel = how.pop("kernel")
    outputs = draw(st.sampled_from([1, 3, 16, 20, 40]))
    weights = _weights(draw, (outputs, *kernel, x.shape[3]), x.type.dtype.value)  # type: ignore[misc]
    act = draw(st.sampled_from(["none", "relu", "relu6"]))
    return b.conv2d(x, weights, _bias(draw, outputs), activation=act, **how)  # type: ignore[arg-type]


def depthwise(draw: st.DrawFn, b: Builder, known: list[Value]) -> Value:
    x = draw(st.sampled_from(known))
    how = _window(draw, x)
    kernel = how.pop("kernel")
    weights = _weights(draw, (1, *kernel, x.shape[3]), x.type.dtype.value)  # type: ignore[misc]
    return b.depthwise_conv2d(x, weights, _bias(draw, x.shape[3]), **how)  # type: ignore[arg-type]


def transposed(draw: st.DrawFn, b: Builder, known: list[Value]) -> Value:
    x = draw(st.sampled_from(known))
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    outputs = draw(st.sampled_from([3, 16]))
    weights = _weights(draw, (outputs, kernel, kernel, x.shape[3]), x.type.dtype.value)
    same = draw(st.booleans())
    more = 0 if same else max(kernel - stride, 0)
    high, wide = (n * stride + more for n in x.shape[1:3])
    padding: Pads = "same" if same else "valid"
    return b.transpose_conv(
        x, weights, _bias(draw, outputs), size=(high, wide), stride=stride, padding=padding
    )


def add(draw: st.DrawFn, b: Builder, known: list[Value]) -> Value:
    x = known[-1]
    alike = [v for v in known if v.shape == x.shape]
    return b.add(
        x, draw(st.sampled_from(alike)), activation=draw(st.sampled_from(["none", "relu"]))
    )


def residual(draw: st.DrawFn, b: Builder, known: list[Value]) -> Value:
    """A block with a detour, which reads its input in two ways."""
    x = draw(st.sampled_from(known))
    kernel = draw(st.sampled_from([1, 3]))
    kind = x.type.dtype.value
    y = b.conv2d(x, _weights(draw, (12, kernel, kernel, x.shape[3]), kind))
    z = b.conv2d(y, _weights(draw, (x.shape[3], 1, 1, 12), kind))
    return b.add(*draw(st.permutations([x, z])))


def pool(draw: st.DrawFn, b: Builder, known: list[Value]) -> Value:
    x = draw(st.sampled_from(known))
    how = _window(draw, x, 3)
    kernel = how.pop("kernel")
    how.pop("dilation")
    method = b.max_pool2d if draw(st.booleans()) else b.average_pool2d
    return method(x, kernel, **how)  # type: ignore[arg-type]


def concatenation(draw: st.DrawFn, b: Builder, known: list[Value]) -> Value:
    x = known[-1]
    quantization = x.type.quantization
    alike = [v for v in known if v.shape[:3] == x.shape[:3] and v.type.quantization == quantization]
    return b.concatenation([x, draw(st.sampled_from(alike))], quantization=quantization)


def pad(draw: st.DrawFn, b: Builder, known: list[Value]) -> Value:
    sides = [draw(st.integers(0, 3)) for _ in range(4)]
    return b.pad(draw(st.sampled_from(known)), (0, *sides[:2], 0), (0, *sides[2:], 0))


def other(draw: st.DrawFn, b: Builder, known: list[Value]) -> Value:
    x = draw(st.sampled_from(known))
    method = draw(st.sampled_from([b.relu, b.leaky_relu, b.hard_swish, b.softmax]))
    return method(x)


EVERYTHING: tuple[Step, ...] = (
    conv2d, conv2d, depthwise, transposed, residual, add, pool, concatenation, pad, other
)  # fmt: skip
ROCKET: tuple[Step, ...] = (conv2d, conv2d, depthwise, residual, add)


@st.composite
def networks(draw: st.DrawFn, steps: tuple[Step, ...] = EVERYTHING, most: int = 6) -> Graph:
    """Some operations after one another, with detours; the last one is an output, others may be."""
    b = Builder("network")
    dtype = draw(st.sampled_from(["u8", "i8"]))
    size = (draw(st.integers(9, 40)), draw(st.integers(3, 9)))
    x = b.input("x", dtype, (1, *size, draw(st.sampled_from([1, 3, 16, 20]))), 1 / 64, 3)
    known = [x]
    for _ in range(draw(st.integers(1, most))):
        known.append(draw(st.sampled_from(steps))(draw, b, known[-3:]))
    made = known[1:]
    outputs = [v for v in made[:-1] if draw(st.integers(0, 4)) == 0]
    b.output(*dict.fromkeys([*outputs, made[-1]]))
    return remove_dead(b.build())


@st.composite
def choices(draw: st.DrawFn, graph: Graph, cores: int) -> list[Choice]:
    """Stages of a graph, by rows or by channels wherever that is possible."""
    count = len(graph.ops)
    places = [n for n in range(1, count) if separable(graph, n) and draw(st.integers(0, 2)) == 0]
    found = []
    for first, last in itertools.pairwise([0, *places, count]):
        stage = graph.subgraph(graph.ops[first:last])
        rows, channels = _rows(draw, cores), _channels(draw, stage, cores)
        ways: list[Rows | Channels | None] = []
        ways += [rows] if cut_rows(stage, rows) else []
        ways += [channels] if cut_channels(stage, channels) else []
        found.append(Choice(first, last, draw(st.sampled_from(ways or [None]))))
    return found


def _rows(draw: st.DrawFn, cores: int) -> Rows:
    move = st.floats(-0.4, 0.4)
    return Rows((0.0, *((n + draw(move)) / cores for n in range(1, cores)), 1.0))


def _channels(draw: st.DrawFn, stage: Graph, cores: int) -> Channels:
    count = stage.ops[-1].results[0].shape[-1]
    inner = sorted(draw(st.integers(0, count)) for _ in range(cores - 1))
    return Channels(tuple(dict.fromkeys([0, *inner, count])))


def chained(layers: int, height: int = 48, classifier: bool = False) -> Graph:
    """Convolutions after one another, heavy ones."""
    random = np.random.default_rng(0)
    b = Builder("chain")
    x = b.input("x", "u8", (1, height, 32, 32), 1 / 64, 3)
    for _ in range(layers):
        weights = random.integers(0, 256, (32, 3, 3, 32), np.uint8)
        x = b.conv2d(x, weights, np.zeros(32, np.int32), activation="relu")
    if classifier:
        x = b.fully_connected(x, random.integers(0, 256, (8, x.type.size), np.uint8))
    b.output(x)
    return b.build()
