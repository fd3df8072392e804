"""Generated graphs for the rocket driver: compile, run on the strict simulator, compare each
operation with the IR's own arithmetic on the same operands.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.types import Array, DType
from teflon_common.conformance.graphs import ACTIVATIONS as ACTIVATIONS
from teflon_common.conformance.graphs import pick as pick
from teflon_common.conformance.graphs import quantization as quantization
from teflon_common.conformance.graphs import random_inputs as random_inputs
from teflon_common.fake_drm import FakeWinsys
from teflon_common.layout import LANES
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext, RocketExecutable
from teflon_rocket.device import RocketDevice
from teflon_rocket.program import Port
from teflon_rocket.simulator.kernel import RocketKernel
from tests.counts import COUNTS, Count
from tests.rocket.apart import APART
from tests.rocket.times import check_time

DEVICE = RocketDevice("rk3588")
PER_BLOCK = 20
"""Cases of one test."""

Random = np.random.Generator
Case = Callable[[Random], Graph]

PADDINGS = ("same", "valid", "explicit")


def blocks(count: int) -> range:
    """Numbers of the tests of one kind; TEFLON_GRID=4 makes four times as many."""
    return range(count * int(os.environ.get("TEFLON_GRID", "1")))


def open_simulator() -> RocketContext:
    """A context on a simulated chip that answers before SUBMIT returns."""
    return RocketContext(DEVICE, FakeWinsys(RocketKernel(RK3588, asynchronous=False)))


def channel_count(random: Random) -> int:
    return int(pick(random, 1, 2, 3, 8, 16, 17, 24, 31, 32, 33, 40, 48, 64, 65, 100, 112, 300))


def explicit(random: Random, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    """Padding on each side by itself, less than the kernel."""
    high, wide = kernel
    return tuple(int(random.integers(0, k)) for k in (high, high, wide, wide))  # type: ignore[return-value]


def window(random: Random, kernel: tuple[int, int]) -> dict[str, Any]:
    how = pick(random, *PADDINGS)
    return {
        "dilation": pick(random, (1, 1), (2, 1), (2, 3)) if max(kernel) <= 3 else (1, 1),
        "stride": (int(random.integers(1, 4)), int(random.integers(1, 4))),
        "padding": explicit(random, kernel) if how == "explicit" else how,
        "activation": pick(random, *ACTIVATIONS),
    }


def reach(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns from a kernel's first tap to its last."""
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


def kernel_size(random: Random) -> tuple[int, int]:
    size = int(random.integers(1, 8))
    return (size, size) if random.random() < 0.6 else (size, int(random.integers(1, 8)))


def weights(random: Random, dtype: str, shape: tuple[int, ...]) -> tuple[Array, dict[str, Any]]:
    low, high = (0, 255) if dtype == "u8" else (-127, 127)
    data = random.integers(low, high + 1, shape, np.uint8 if dtype == "u8" else np.int8)
    zero = int(random.integers(low, high + 1)) if dtype == "u8" else 0
    return data, {
        "weight_scale": float(np.exp(random.uniform(-7, -3))),
        "weight_zero_point": zero,
    }


def result(random: Random, dtype: str, unit: float, terms: int) -> dict[str, Any]:
    """An output quantisation that uses a good part of the range."""
    found = quantization(random, dtype)
    spread = 75.0 * 75.0 * np.sqrt(terms)
    found["scale"] = float(unit * spread / random.uniform(10, 120))
    return found


def convolved(
    b: Builder, random: Random, x: Value, shape: tuple[int, ...], depthwise: bool, **how: Any
) -> Value:
    """Add a convolution with random weights and bias."""
    dtype = x.type.dtype.value
    data, scaled = weights(random, dtype, shape)
    unit = x.type.scale * scaled["weight_scale"]
    terms = shape[1] * shape[2] * (1 if depthwise else shape[3])
    channels = shape[3] if depthwise else shape[0]
    bias = random.integers(-20000, 20000, channels, np.int32) if random.random() < 0.8 else None
    add = b.depthwise_conv2d if depthwise else b.conv2d
    return add(x, data, bias, **scaled, **result(random, dtype, unit, terms), **how)


def image(random: Random, kernel: tuple[int, int], channels: int) -> tuple[int, int, int, int]:
    """A small map that the kernel fits; rarely a batch."""
    sizes = [int(random.integers(k, k + 9)) for k in kernel]
    return pick(random, 1, 1, 1, 2), sizes[0], sizes[1], channels


def check(context: RocketContext, graph: Graph, random: Random) -> str:
    """Run a graph on both sides and say what is wrong; empty where nothing is."""
    refused = [r for op in graph.ops for r in DEVICE.unsupported(op, graph)]
    if refused:
        return f"refused: {refused}"
    worst = max(differences(context, graph, random_inputs(random, graph)).values())
    count = COUNTS.setdefault(f"rocket grid: {graph.name}", Count())
    count.cases += 1
    count.elements += sum(v.type.size for op in graph.ops for v in op.results)
    return "" if worst <= 1 else f"differs by {worst}"


def differences(context: RocketContext, graph: Graph, inputs: list[Array]) -> dict[Op, int]:
    """Run a graph on the device; greatest difference of each operation's result from what the
    reference makes of the operands that the device had. Operations fused into another are not in.

    Run with a buffer for each tensor, so that all can be looked at, and as it is always run: with
    an arena that is used again and again. The outputs must be the same.
    """
    loaded = context.load(APART.compile(graph, RK3588))
    with closing(context.load(DEVICE.compile(graph))) as usual:
        packed = context.invoke(usual, inputs)
        if context.timeline is not None:  # a chip in this process
            check_time(usual)
    try:
        results = context.invoke(loaded, inputs)
        if context.timeline is not None:
            check_time(loaded)
        kept = kept_values(loaded, graph)
    finally:
        loaded.close()
    for one, other in zip(packed, results, strict=True):
        np.testing.assert_array_equal(one, other)
    kept |= dict(zip(graph.inputs, inputs, strict=True))
    for value, result in zip(graph.outputs, results, strict=True):
        kept[value] = result
    return {op: _difference(graph, op, kept) for op in graph.ops if op.results[0] in kept}


def kept_values(loaded: RocketExecutable, graph: Graph) -> dict[Value, Array]:
    """Every computed tensor that lies in the device's memory, also intermediate ones."""
    places = {b.name: n for n, b in enumerate(loaded.program.buffers) if b.role == "tensor"}
    found = {}
    for value in (v for op in graph.ops for v in op.results):
        if value.name in places:
            buffer = places[value.name]
            flip = 0x80 if value.type.dtype is DType.UINT8 else 0
            images, _, _, channels = Port(value.type, 0, "").shape
            pitch = loaded.program.buffers[buffer].size // images
            surface = pitch // (2 * -(-channels // LANES) * LANES)
            port = Port(
                value.type, buffer, "surfaces", image_pitch=pitch, surface_pitch=surface, flip=flip
            )
            found[value] = port.fetch(loaded.buffers[buffer].memory)
    return found


def _difference(graph: Graph, op: Op, kept: dict[Value, Array]) -> int:
    """Greatest difference of an operation's result, given what the device had as operands."""
    have, want = kept[op.results[0]], _expected(graph, op, kept)
    return int(np.abs(have.astype(np.int64) - want.astype(np.int64)).max())


def _expected(graph: Graph, op: Op, kept: dict[Value, Array]) -> Array:
    operands: list[Array | None] = []
    for value in op.operands:
        if value is None or value.data is not None:
            operands.append(None if value is None else value.data)
        elif value in kept:
            operands.append(kept[value])
        else:
            producer = graph.producer(value)
            assert producer is not None
            operands.append(_expected(graph, producer, kept))
    return op.evaluate(*operands)[0]


def described(graph: Graph) -> str:
    return "; ".join(
        f"{op.mnemonic} "
        + " ".join(f"{v.type.dtype.value}{list(v.shape)}" for v in op.inputs_present)
        + f" -> {list(op.results[0].shape)} {getattr(op, 'stride', '')}"
        f" {getattr(op, 'padding', '')} {getattr(op, 'activation', '')}"
        f" z={[v.type.zero_point for v in (*op.inputs_present, *op.results)]}"
        for op in graph.ops
    )


def check_block(context: RocketContext, case: Case, block: int, cases: int = PER_BLOCK) -> None:
    """Check some cases; the message names every one that is wrong."""
    wrong = []
    for number in range(cases):
        random = np.random.default_rng([block, number])
        graph = case(random)
        if problem := check(context, graph, random):
            wrong.append(f"case [{block}, {number}]: {problem}: {described(graph)}")
    assert not wrong, "\n".join(wrong)
