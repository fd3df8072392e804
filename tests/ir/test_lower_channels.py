"""Channels that contribute nothing get the scale of the others, and no result changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.compile.planning import plan_model
from teflon.devices import open_device
from teflon.ir import Array, Graph, interpreter
from teflon.ir.builder import Builder
from teflon.ir.lower import level_channels
from teflon.ir.types import Quantization
from teflon.run.load import load

CHANNELS = 6
KINDS = ("conv", "depthwise", "dense", "transposed")


def layer(kind: str, scales: list[float], bias: Array, seed: int = 0) -> Graph:
    """Return a layer of int8 with a scale for each output channel."""
    rng = np.random.default_rng(seed)
    b = Builder(kind)
    x = b.input("x", "i8", (1, 5, 5, CHANNELS), 0.1, 3)
    how = {"weight_scale": scales, "scale": 0.3, "zero_point": -4}
    shapes = {
        "conv": (CHANNELS, 3, 3, CHANNELS),
        "depthwise": (1, 3, 3, CHANNELS),
        "dense": (CHANNELS, 25 * CHANNELS),
        "transposed": (CHANNELS, 2, 2, CHANNELS),
    }
    weights = rng.integers(-127, 128, shapes[kind], np.int8)
    if kind == "conv":
        made = b.conv2d(x, weights, bias, **how)  # type: ignore[arg-type]
    elif kind == "depthwise":
        made = b.depthwise_conv2d(x, weights, bias, **how)  # type: ignore[arg-type]
    elif kind == "dense":
        made = b.fully_connected(x, weights, bias, **how)  # type: ignore[arg-type]
    else:
        made = b.transpose_conv(x, weights, bias, size=(10, 10), stride=2, **how)  # type: ignore[arg-type]
    b.output(made)
    return b.build()


def results(graph: Graph) -> Array:
    rng = np.random.default_rng(1)
    inputs = [rng.integers(-128, 128, v.shape, np.int8) for v in graph.inputs]
    return interpreter.run(graph, inputs)[0]


def scales_of(graph: Graph) -> tuple[float, ...]:
    (op,) = graph.ops
    kind = op.inputs_present[1].type.quantization
    assert isinstance(kind, Quantization)
    return kind.scales


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_scales_become_the_largest(kind: str) -> None:
    scales = [0.02, 1e-35, 0.01, 2e-37, 0.02, 0.015]
    graph = layer(kind, scales, np.full(CHANNELS, 1000, np.int32))
    after = level_channels(graph).verify()
    wanted = [np.float32(s if s > 1e-9 else 0.02) for s in scales]
    assert list(scales_of(after)) == wanted
    assert np.array_equal(results(after), results(graph))


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    scales=st.lists(st.floats(-38, 0).map(lambda e: float(np.float32(10.0**e))), min_size=CHANNELS,
                    max_size=CHANNELS),
    bias=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=CHANNELS, max_size=CHANNELS),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_no_result_changes(kind: str, scales: list[float], bias: list[int], seed: int) -> None:
    graph = layer(kind, scales, np.array(bias, np.int32), seed)
    after = level_channels(graph).verify()
    assert np.array_equal(results(after), results(graph))


def test_what_moves_a_result_stays() -> None:
    """A bias can be large where the scale is small."""
    bias = np.full(CHANNELS, 2**31 - 1, np.int32)
    graph = layer("conv", [1.0, 1e-7, 1.0, 1.0, 1.0, 1.0], bias)
    assert level_channels(graph) is graph


def test_layers_of_like_scales_stay_what_they_are() -> None:
    graph = layer("conv", [0.02, 0.01, 0.03, 0.02, 0.01, 0.03], np.zeros(CHANNELS, np.int32))
    assert level_channels(graph) is graph


@pytest.mark.parametrize("chip", ["rk3588", "a311d", "s905d3", "imx8mp"])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_chips_take_such_layers(kind: str, chip: str) -> None:
    graph = layer(kind, [0.02, 1e-35, 0.01, 2e-37, 0.02, 0.015], np.arange(6, dtype=np.int32))
    plan = plan_model(graph, open_device(chip)[0])
    assert [part.device for part in plan.partitions] == [0]
    with load(graph, f"sim:{chip}", options={"cache": "off"}) as model:
        x = np.random.default_rng(2).integers(-128, 128, graph.inputs[0].shape, np.int8)
        far = np.abs(model.run(x)[0].astype(int) - interpreter.run(graph, [x])[0].astype(int))
    assert far.max() <= 2
    assert far[..., [1, 3]].max() == 0
