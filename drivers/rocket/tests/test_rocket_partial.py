"""Kernels of more than 3072 bytes: cut into parts, whose sums stay within a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext
from teflon_rocket.exact.lower import lower
from teflon_rocket.exact.partial import MOST_BYTES, parts
from teflon_rocket.operations.convolution import Convolution, Geometry
from tests.rocket.grid import DEVICE, check, open_simulator, random_inputs

Random = np.random.Generator


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4000), st.booleans())
def test_parts_cover_the_kernel_once(high: int, wide: int, channels: int, padded: bool) -> None:
    pads = (1, 1, 1, 1) if padded else (0, 0, 0, 0)
    g = Geometry(20, 20, channels, 9, 9, 8, kernel=(wide, high), pads=pads)
    taken = np.zeros((high, g.atoms), int)
    for part in parts(g):
        taken[part.rows, part.atoms] += 1
        rows, atoms = part.rows.stop - part.rows.start, part.atoms.stop - part.atoms.start
        assert len(parts(g)) == 1 or rows * wide * atoms * 16 <= MOST_BYTES
    assert (taken == 1).all()
    assert (len(parts(g)) == 1) == (high * wide * channels <= MOST_BYTES)


def layer(random: Random, kind: str) -> Graph:
    """A convolution with weights like those of trained networks."""
    wide = [int(n) for n in random.integers(3, 8, 2)]
    size, kernel, depth = {
        "channels": (wide, (3, 3), int(random.choice([352, 400, 512, 800]))),
        "one pixel": ([1, 1], (1, 1), int(random.choice([3104, 4096, 7104]))),
        "rows": ([25, 20], (25, 20), int(random.choice([8, 16]))),
    }[kind]
    b, outputs = Builder(kind), int(random.choice([4, 16, 40, 70]))
    zero = int(random.integers(-128, 128))
    x = b.input("x", "i8", (1, *size, depth), scale=0.05, zero_point=zero)
    data = np.clip(np.rint(random.normal(0, 30, (outputs, *kernel, depth))), -127, 127)
    scales = np.exp(random.uniform(-6, -4, outputs))
    bias = random.integers(-30000, 30000, outputs).astype(np.int32)
    spread = 0.05 * float(scales.max()) * 73 * 30 * float(np.sqrt(kernel[0] * kernel[1] * depth))
    how: dict[str, Any] = {
        "weight_scale": [float(s) for s in scales],
        "scale": spread / random.uniform(20, 60),
        "zero_point": int(random.integers(-128, 128)),
        "padding": "same" if kind == "channels" else "valid",
        "activation": str(random.choice(["none", "relu", "relu6"])),
    }
    b.output(b.conv2d(x, data.astype(np.int8), bias, **how))
    return b.build()


@pytest.mark.parametrize("kind", ["channels", "one pixel", "rows"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_sums_of_parts(context: RocketContext, kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    graph = layer(random, kind)
    assert check(context, graph, random) == ""
    for operation in lower(graph, RK3588).operations:
        assert isinstance(operation, Convolution)
        assert operation.geometry.taps * operation.geometry.channels <= MOST_BYTES


def test_nearly_all_results_are_the_reference_s(context: RocketContext) -> None:
    wrong = total = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        graph = layer(random, "channels")
        (x,) = random_inputs(random, graph)
        with closing(context.load(DEVICE.compile(graph))) as loaded:
            have = context.invoke(loaded, [x])[0]
        op = graph.ops[0]
        want = op.evaluate(x, *(v.data for v in op.operands[1:] if v is not None))[0]
        wrong, total = wrong + int((have != want).sum()), total + have.size
    assert 0 < wrong < total / 50


def test_a_matrix_of_one_scale(context: RocketContext) -> None:
    """uint8 weights with a zero point: the parts have the compensation of all."""
    random = np.random.default_rng(2)
    b = Builder("matrix")
    x = b.input("x", "u8", (1, 5000), scale=0.05, zero_point=120)
    weights = np.clip(np.rint(random.normal(140, 30, (10, 5000))), 0, 255).astype(np.uint8)
    b.output(
        b.fully_connected(
            x, weights, weight_scale=0.01, weight_zero_point=137, scale=4.0, zero_point=99
        )
    )
    assert check(context, b.build(), random) == ""
