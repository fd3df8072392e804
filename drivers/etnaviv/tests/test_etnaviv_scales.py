"""Scales far apart: within one step up to the limit of a rule, refused with the reason beyond."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.pipe import Context
from teflon_etnaviv.device import EtnavivDevice
from tests.etnaviv.grid import opened
from tests.etnaviv.moved import difference

CHIPS = ("a311d", "s905d3", "imx8mp")
KINDS = ("conv2d", "per channel", "depthwise_conv2d", "fully_connected", "add", "sub", "mul",
         "mean")  # fmt: skip
SMALL = 2.0**-149
"""The least scale that a file can hold."""


@pytest.fixture(scope="module", params=CHIPS)
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    with opened(request.param) as found:
        yield found


def _graph(kind: str, times: float, out: float) -> Graph:
    """An operation whose sums count in `times` steps of the output."""
    random = np.random.default_rng(1)
    b = Builder(kind)
    how: Any = {"scale": out, "zero_point": 7}
    one = 0.5 if kind in ("conv2d", "per channel", "depthwise_conv2d", "fully_connected") else 1
    shape = (1, 54) if kind == "fully_connected" else (1, 3, 3, 6)
    x = b.input("x", "i8", shape, scale=times * out / one, zero_point=-5)
    if kind == "mean":
        b.output(b.mean(x, (1, 2), keep_dims=True, **how))
    elif kind == "mul":
        y = b.input("y", "i8", shape, scale=1.0, zero_point=3)
        b.output(b.mul(x, y, **how))
    elif kind in ("add", "sub"):
        y = b.input("y", "i8", shape, scale=times * out / 3, zero_point=3)
        b.output(getattr(b, kind)(x, y, **how))
    else:
        sizes = {"fully_connected": (4, 54), "depthwise_conv2d": (1, 3, 3, 6)}
        size = sizes.get(kind, (4, 3, 3, 6))
        data = random.integers(-127, 128, size).astype(np.int8)
        scales: Any = [0.5, 0.25, 0.5, 0.5] if kind == "per channel" else 0.5
        name = "conv2d" if kind == "per channel" else kind
        b.output(getattr(b, name)(x, data, weight_scale=scales, **how))
    return b.build()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("power", [-38, -20, -9, 4, 13])
def test_scales_up_to_the_limit(context: Context, kind: str, power: int) -> None:
    assert difference(context, _graph(kind, 2.0**power, 0.25)) <= 1


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("times", "out"), [(2.0**100, SMALL), (2.0**-100, 1.0), (2.0**21, 0.1)])
def test_scales_that_no_shift_reaches_are_refused(
    chip: str, kind: str, times: float, out: float
) -> None:
    graph = _graph(kind, times, out)
    (reason,) = EtnavivDevice(chip).unsupported(graph.ops[0], graph)
    assert "must be 2^-40 to 2^14" in reason
