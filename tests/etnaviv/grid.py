"""Generated graphs for the etnaviv driver: compile, run on the strict simulators, compare each
graph's result with the IR's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from teflon.errors import TeflonError
from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array, DType
from teflon.pipe import Context
from teflon_etnaviv import teflon_driver
from tests.counts import COUNTS, Count
from tests.etnaviv.moved import rearranged
from tests.rocket.grid import (
    Case,
    Random,
    convolved,
    described,
    explicit,
    pick,
    quantization,
    random_inputs,
)


def opened(chip: str, options: Mapping[str, str] | None = None) -> Context:
    """A context on a simulated chip, also one that the driver does not offer by name."""
    return teflon_driver().simulate(chip, options)


def _image(random: Random, kernel: tuple[int, int], channels: int) -> tuple[int, int, int, int]:
    high, wide = (int(random.integers(k, k + 9)) for k in kernel)
    return 1, high, wide, channels


def _window(random: Random, kernel: tuple[int, int]) -> dict[str, Any]:
    how = pick(random, "same", "valid", "explicit")
    return {
        "stride": pick(random, (1, 1), (2, 2)),
        "padding": explicit(random, kernel) if how == "explicit" else how,
        "activation": pick(random, "none", "relu"),
    }


def _kernel(random: Random) -> tuple[int, int]:
    size = int(random.integers(1, 8))
    return (size, size) if random.random() < 0.6 else (size, int(random.integers(1, 8)))


def _channels(random: Random) -> int:
    return int(pick(random, 1, 2, 3, 5, 6, 8, 9, 16, 17, 31, 48, 65, 100, 300))


def start(random: Random, name: str, shape: tuple[int, ...]) -> tuple[Builder, Value]:
    """A graph with an input of bytes in a random quantisation."""
    dtype = pick(random, "u8", "i8")
    b = Builder(name)
    return b, b.input("x", dtype, shape, **quantization(random, dtype))


def conv(random: Random) -> Graph:
    """One convolution."""
    kernel, channels = _kernel(random), _channels(random)
    b, x = start(random, "convolution", _image(random, kernel, channels))
    shape = (_channels(random), *kernel, channels)
    b.output(convolved(b, random, x, shape, False, **_window(random, kernel)))
    return b.build()


def depthwise(random: Random) -> Graph:
    """One depthwise convolution, with several kernels for a channel at times."""
    kernel, channels = _kernel(random), _channels(random)
    b, x = start(random, "depthwise convolution", _image(random, kernel, channels))
    times = pick(random, 1, 1, 1, 2, 3) if channels < 50 else 1
    shape = (1, *kernel, channels * times)
    b.output(convolved(b, random, x, shape, True, **_window(random, kernel)))
    return b.build()


def _like(random: Random, x: Value) -> dict[str, Any]:
    """A quantisation near another one, so that sums use the range."""
    dtype = x.type.dtype.value
    found = quantization(random, dtype)
    found["scale"] = x.type.scale * float(np.exp(random.uniform(-1, 1)))
    return found


def added(random: Random) -> Graph:
    """Sums and differences in all wirings: inputs, convolutions, one operand twice, chains."""
    channels = _channels(random)
    b, x = start(random, "addition", _image(random, (1, 1), channels))
    dtype = x.type.dtype.value
    make = pick(random, b.add, b.sub)
    wiring = pick(random, "inputs", "twice", "residual", "both", "chain", "output too")
    y = b.input("y", dtype, x.shape, **_like(random, x))
    if wiring in ("residual", "both", "chain", "output too"):
        x = convolved(b, random, x, (channels, 1, 1, channels), False)
    if wiring == "both":
        y = convolved(b, random, y, (channels, 3, 3, channels), False, padding="same")
    other = x if wiring == "twice" else y
    pair = (other, x) if random.random() < 0.5 else (x, other)
    z = make(*pair, activation=pick(random, "none", "relu"), **_spread(random, x, other))
    if wiring == "chain":
        z = b.add(z, pick(random, x, y), **_spread(random, z, x))
    b.output(z)
    if wiring == "output too":
        b.output(x)
    if wiring == "twice":
        b.output(b.add(y, z, **_spread(random, y, z)))
    return b.build()


def _spread(random: Random, a: Value, b: Value) -> dict[str, Any]:
    found = quantization(random, a.type.dtype.value)
    found["scale"] = max(a.type.scale, b.type.scale) * float(random.uniform(1, 2.5))
    return found


def moved(random: Random) -> Graph:
    """Concatenation, split, pad and reshape between convolutions and at the edges."""
    channels = 2 * _channels(random)
    b, x = start(random, "movement", _image(random, (2, 2), channels))
    y = convolved(b, random, x, (channels, 1, 1, channels), False)
    kind = pick(random, "concat", "split", "pad", "reshape", "all")
    if kind in ("concat", "all"):
        y = b.concatenation([y, y] if random.random() < 0.3 else [y, _same(b, y, x)], axis=3)
    if kind in ("split", "all"):
        parts = b.split(y, 2, axis=3)
        b.output(parts[0])
        y = parts[1]
    if kind in ("pad", "all"):
        before, after = ([0, *(int(random.integers(3)) for _ in "hwc")] for _ in range(2))
        if random.random() < 0.5:
            before[3] = after[3] = 0
        y = b.pad(y, before, after)
    if kind in ("reshape", "all"):
        y = b.reshape(y, (1, y.shape[1] * y.shape[2], y.shape[3]))
    if kind != "reshape" and random.random() < 0.5 and len(y.shape) == 4:
        y = convolved(b, random, y, (4, 1, 1, y.shape[3]), False)
    b.output(y)
    return b.build()


def reordered(random: Random) -> Graph:
    """Elements that move from place to place, between convolutions and at the edges."""
    b, x = start(random, "rearrangement", _image(random, (2, 2), 2 * _channels(random) % 64 + 1))
    y = convolved(b, random, x, (x.shape[3], 1, 1, x.shape[3]), False)
    for _ in range(int(random.integers(1, 4))):
        y = rearranged(b, random, y)
    if random.random() < 0.5:
        y = convolved(b, random, y, (4, 1, 1, y.shape[3]), False)
    b.output(y)
    return b.build()


def _same(b: Builder, y: Value, x: Value) -> Value:
    """Another value with the quantisation of y."""
    return b.conv2d(
        x, np.ones((4, 1, 1, x.shape[3]), x.type.dtype.numpy), weight_scale=0.01,
        scale=y.type.scale, zero_point=y.type.zero_point,
    )  # fmt: skip


def connected(random: Random) -> Graph:
    """A fully connected layer behind an image, a reshape or nothing."""
    inputs = int(pick(random, 1, 2, 7, 16, 49, 128, 225, 226, 300, 1024, 1280, 1999))
    b, x = start(random, "fully connected", (1, inputs))
    dtype = x.type.dtype.value
    outputs = _channels(random)
    low, high = (0, 256) if dtype == "u8" else (-127, 128)
    data = random.integers(low, high, (outputs, inputs)).astype(x.type.dtype.numpy)
    found = quantization(random, dtype)
    unit = x.type.scale * 0.01
    found["scale"] = float(unit * 75.0 * 75.0 * np.sqrt(inputs) / random.uniform(10, 120))
    zero = int(random.integers(0, 256)) if dtype == "u8" else 0
    b.output(b.fully_connected(x, data, weight_scale=0.01, weight_zero_point=zero, **found))
    return b.build()


def tabled(random: Random) -> Graph:
    """RELU, ABS, LOGISTIC, and another quantisation."""
    b, x = start(random, "table", _image(random, (1, 1), _channels(random)))
    kinds = ("relu", "logistic", "quantize")
    kind = pick(random, *kinds, *(("abs",) if x.type.dtype is DType.INT8 else ()))
    dtype = x.type.dtype.value
    found = quantization(random, dtype)
    found["scale"] = x.type.scale * float(random.uniform(0.7, 2))
    if kind == "logistic":
        b.output(b.logistic(x))
    elif kind == "quantize":
        b.output(b.quantize(x, dtype, **found))
    else:
        b.output(getattr(b, kind)(x, **found))
    return b.build()


CASES: dict[str, Case] = {
    "convolution": conv, "depthwise": depthwise, "addition": added, "movement": moved,
    "rearrangement": reordered,
    "fully connected": connected, "table": tabled,
}  # fmt: skip


def check(context: Context, graph: Graph, random: Random) -> str:
    """Run a graph on both sides and say what is wrong; empty where nothing is."""
    device = context.device
    refused = [r for op in graph.ops for r in device.unsupported(op, graph)]
    if refused:
        return f"refused: {refused}"
    inputs = random_inputs(random, graph)
    try:
        loaded = context.load(device.compile(graph))
        have = context.invoke(loaded, inputs)
        loaded.close()
    except TeflonError as error:
        return f"{type(error).__name__}: {error}"
    worst = max(_differences(have, interpreter.run(graph, inputs)))
    count = COUNTS.setdefault(f"{device.chip} grid: {graph.name}", Count())
    count.cases += 1
    count.elements += sum(a.size for a in have)
    return "" if worst <= _allowed(graph) else f"differs by {worst}"


def _allowed(graph: Graph) -> int:
    """Steps that a graph may be off: one for each operation that rounds behind another."""
    rounding = [op for op in graph.ops if op.mnemonic not in ("reshape", "split", "pad")]
    return 1 if len(rounding) == 1 else 4 * len(rounding)


def _differences(have: list[Array], want: list[Array]) -> list[int]:
    pairs = zip(have, want, strict=True)
    return [int(np.abs(h.astype(int) - w.astype(int)).max()) for h, w in pairs]


def check_block(context: Context, case: Case, block: int, cases: int = 12) -> None:
    """Check some cases; the message names every one that is wrong."""
    wrong = []
    for number in range(cases):
        random = np.random.default_rng([block, number])
        graph = case(random)
        if problem := check(context, graph, random):
            wrong.append(f"case [{block}, {number}]: {problem}: {described(graph)}")
    assert not wrong, "\n".join(wrong)
