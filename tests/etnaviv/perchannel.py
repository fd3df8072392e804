"""Generated layers with a scale for each output channel, and what runs them on simulated chips."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array
from teflon.pipe import Context
from teflon_etnaviv import teflon_driver
from tests.rocket.grid import Random, pick

CHIPS = ("a311d", "s905d3", "imx8mp")
MODES = ("exact", "balanced", "merged")


def opened(chip: str, mode: str) -> Context:
    """A context on a simulated chip."""
    return teflon_driver().simulate(chip, {"perchannel": mode})


def ran(context: Context, graph: Graph, inputs: list[Array]) -> list[Array]:
    """The results of a graph."""
    with closing(context.load(context.device.compile(graph))) as loaded:
        return context.invoke(loaded, inputs)


def one_by_one(context: Context, graph: Graph, inputs: list[Array]) -> list[Array]:
    """The results of a graph whose operations run one at a time: each has all channels in order."""
    known = dict(zip(graph.inputs, inputs, strict=True))
    for op in graph.ops:
        alone = graph.subgraph([op])
        results = ran(context, alone, [known[v] for v in alone.inputs])
        known.update(zip(alone.outputs, results, strict=True))
    return [known[v] for v in graph.outputs]


def scales(random: Random, channels: int, octaves: float) -> list[float]:
    """Scales of channels, so many octaves apart, some of them equal."""
    found = 0.004 * 2.0 ** -random.uniform(0, octaves, channels)
    repeated = random.random(channels) < 0.2
    found[repeated] = found[0]
    return [float(np.float32(s)) for s in found]


def start(random: Random, name: str, shape: tuple[int, ...]) -> tuple[Builder, Value]:
    """A graph with one input."""
    b = Builder(name)
    return b, b.input("x", "i8", shape, scale=0.05, zero_point=int(random.integers(-128, 128)))


def layer(
    b: Builder,
    random: Random,
    x: Value,
    shape: tuple[int, ...],
    kind: str = "conv2d",
    octaves: float = 5,
    gain: float = 1,
    **how: Any,
) -> Value:
    """Add a layer with random weights, biases and scales, whose results fill their range; with a
    gain so many times.
    """
    depthwise = kind == "depthwise_conv2d"
    channels = shape[3] if depthwise else shape[0]
    terms = int(np.prod(shape)) // channels
    data = random.integers(-127, 128, shape).astype(np.int8)
    bias = random.integers(-4000, 4000, channels).astype(np.int32)
    found = scales(random, channels, octaves)
    spread = x.type.scale * max(found) * 70 * 75 * np.sqrt(terms)
    return getattr(b, kind)(  # type: ignore[no-any-return]
        x, data, bias, weight_scale=found, scale=float(spread / gain / random.uniform(40, 100)),
        zero_point=int(random.integers(-128, 60)), **how,
    )  # fmt: skip


def any_layer(random: Random) -> Graph:
    """One layer of any kind, size and stride."""
    kind = pick(random, "conv2d", "depthwise_conv2d", "fully_connected")
    channels, kernels = (int(pick(random, 1, 2, 5, 6, 8, 13, 24, 40, 65)) for _ in "io")
    if kind == "fully_connected":
        b, x = start(random, kind, (1, channels * 9))
        b.output(layer(b, random, x, (kernels, channels * 9), kind))
        return b.build()
    size = int(random.integers(1, 6))
    b, x = start(random, kind, (1, size + int(random.integers(6)), size + 3, channels))
    times = int(pick(random, 1, 1, 2)) if channels < 20 else 1
    depthwise = kind == "depthwise_conv2d"
    shape = (1, size, size, channels * times) if depthwise else (kernels, size, size, channels)
    how = {
        "stride": pick(random, 1, 2),
        "padding": pick(random, "same", "valid"),
        "activation": pick(random, "none", "relu"),
    }
    b.output(layer(b, random, x, shape, kind, float(random.uniform(0.01, 8)), **how))
    return b.build()


def shaped(random: Random) -> Graph:
    """One layer that lowering brings into another shape: dilated, grouped, transposed, of several
    rows or images, with unlike strides.
    """
    kind = pick(random, "dilated", "grouped", "transposed", "rows", "images", "strides")
    channels, kernels = int(pick(random, 2, 6, 8)), int(pick(random, 4, 8, 14, 24))
    if kind == "rows":
        b, x = start(random, kind, (1, 7, channels))
        how: dict[str, Any] = {"keep_num_dims": True}
        b.output(layer(b, random, x, (kernels, channels), "fully_connected", **how))
        return b.build()
    images = 2 if kind == "images" else 1
    b, x = start(random, kind, (images, 8, 7, channels))
    shape, how, name = (kernels, 3, 3, channels), {}, "conv2d"
    if kind == "dilated":
        how = {"dilation": 2}
    elif kind == "strides":
        how = {"stride": (1, 2)}
    elif kind == "grouped":
        shape = (kernels, 3, 3, channels // 2)
    elif kind == "transposed":
        name, how = "transpose_conv", {"stride": 2, "size": (16, 14), "padding": "same"}
    b.output(layer(b, random, x, shape, name, **how))
    return b.build()


def network(random: Random) -> Graph:
    """Layers one behind the other, with what lets orders pass and what does not."""
    channels = int(pick(random, 6, 12, 24))
    b, x = start(random, "network", (1, 7, 5, channels))
    y = x
    for _ in range(int(random.integers(2, 6))):
        kind = pick(random, "conv", "pair", "depthwise", "residual", "table", "pad", "output too")
        if kind == "depthwise":
            y = layer(b, random, y, (1, 3, 3, channels), "depthwise_conv2d")
        elif kind == "pair":
            y = layer(b, random, y, (channels, 1, 1, channels), activation="relu")
            y = layer(b, random, y, (1, 3, 3, channels), "depthwise_conv2d")
        elif kind == "residual":
            z = layer(b, random, y, (channels, 1, 1, channels))
            y = b.add(y, z, scale=y.type.scale + z.type.scale, zero_point=3)
        elif kind == "table":
            y = b.relu(y)
        elif kind == "pad":
            y = b.pad(y, (0, 1, 0, 0), (0, 0, 1, 0))
        else:
            y = layer(b, random, y, (channels, 3, 3, channels))
        if kind == "output too":
            b.output(y)
    if random.random() < 0.5:
        size = y.shape[1:3]
        y = layer(b, random, y, (40, *size, channels), padding="valid")
        y = b.reshape(y, (1, 40))
        y = layer(b, random, y, (10, 40), "fully_connected")
    b.output(y)
    return b.build()


def random_inputs(random: Random, graph: Graph) -> list[Array]:
    """Inputs over their whole range."""
    return [random.integers(-128, 128, v.shape).astype(np.int8) for v in graph.inputs]
