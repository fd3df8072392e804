"""The trainer of the shipped model: gradients, quantisation, the split."""

from __future__ import annotations

import numpy as np
import pytest

from digits_net import Conv3x3, Depthwise3x3, DigitsNet, Floats, cross_entropy, same_padding
from digits_quantize import Variant, affine, quantise, quantised_graph
from teflon.ir.types import DType
from teflon.samples import digits


def loss_of(net: DigitsNet, images: Floats, labels: np.ndarray) -> float:
    return cross_entropy(net.forward(images), labels)[0]


@pytest.mark.parametrize("layer", ["stem", "depthwise", "pointwise", "reduce", "expand", "head"])
def test_gradients_are_the_slopes(layer: str) -> None:
    random = np.random.default_rng(3)
    net = DigitsNet(seed=1, width=4, dtype=np.float64)
    for each in net.layers:
        each.bias += random.normal(0, 0.1, each.bias.shape)
    images, labels = random.uniform(0, 1, (3, 8, 8, 1)), np.array([1, 7, 7])
    net.backward(cross_entropy(net.forward(images), labels)[1])
    part = getattr(net, layer)
    step = 1e-6
    for values, gradient in [(v, g.copy()) for v, g in part.parameters()]:
        for place in random.integers(0, values.size, 5):
            values.flat[place] += step
            above = loss_of(net, images, labels)
            values.flat[place] -= 2 * step
            below = loss_of(net, images, labels)
            values.flat[place] += step
            assert gradient.flat[place] == pytest.approx((above - below) / (2 * step), abs=1e-6)


def test_same_padding_is_tflites() -> None:
    assert same_padding(8, 1) == (1, 1)
    assert same_padding(8, 2) == (0, 1)


@pytest.mark.parametrize("window", [Conv3x3, Depthwise3x3])
def test_window_of_the_centre_tap_passes_the_image_through(window: type[Conv3x3]) -> None:
    shape = (1, 3, 3, 1) if window is Conv3x3 else (3, 3, 1)
    weights = np.zeros(shape)
    weights[(0, 1, 1, 0) if window is Conv3x3 else (1, 1, 0)] = 2
    image = np.random.default_rng(0).uniform(size=(2, 8, 8, 1))
    assert np.array_equal(window(weights, np.zeros(1)).forward(image), 2 * image)


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8])
@pytest.mark.parametrize(("low", "high"), [(0.0, 3.0), (-1.0, 3.0), (-2.0, -1.0), (0.5, 0.7)])
def test_ranges_are_covered_and_zero_is_exact(dtype: DType, low: float, high: float) -> None:
    q = affine(low, high, dtype)
    first, last = dtype.range
    assert first <= q.zero_point <= last
    assert q.scale * (first - q.zero_point) <= min(low, 0) + q.scale / 2
    assert q.scale * (last - q.zero_point) >= max(high, 0) - q.scale / 2
    assert quantise(np.zeros(1), q, dtype)[0] == q.zero_point


@pytest.mark.parametrize("variant", Variant)
def test_graph_has_the_types_that_tflite_asks_for(variant: Variant) -> None:
    net = DigitsNet(seed=1, width=4)
    net.forward(np.random.default_rng(0).uniform(0, 1, (5, 8, 8, 1)))
    ranges = {name: (float(x.min()), float(x.max())) for name, x in net.seen.items()}
    graph = quantised_graph(net, ranges, variant)
    assert graph.inputs[0].type.dtype == variant.dtype
    weights = [v for v in graph.constants if v.name.endswith("/weights")]
    biases = [v for v in graph.constants if v.name.endswith("/bias")]
    assert len(weights) == len(biases) == 6
    assert {v.type.dtype for v in weights} == {variant.dtype}
    assert {v.type.dtype for v in biases} == {DType.INT32}
    if variant is Variant.INT8:
        assert all(v.type.zero_point == 0 for v in weights)


def test_training_and_test_sets_are_fixed_and_disjoint() -> None:
    learn, held_out = digits.training_set(), digits.held_out_set()
    assert (len(learn.labels), len(held_out.labels)) == (1438, 359)
    assert learn.images.shape == (1438, 8, 8, 1)
    assert int(held_out.images.max()) == 255
    assert digits.as_input(held_out.images, np.int8).min() == -128
