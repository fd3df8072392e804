"""8-bit convolutions in C against the same operations in numpy, bit for bit."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir import _eight, eight
from teflon.ir.graph import Value
from teflon.ir.ops import Conv2D, DepthwiseConv2D
from teflon.ir.quantized import INT32_MIN, Multiplier
from teflon.ir.types import Activation, Array, DType, Padding, Quantization, TensorType

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def operations(draw: st.DrawFn) -> tuple[Conv2D | DepthwiseConv2D, Array]:
    """An operation with constant weights, and its input."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    depthwise, unsigned = draw(st.booleans()), draw(st.booleans())
    dtype = DType.UINT8 if unsigned else DType.INT8
    low, high = dtype.range
    channels = draw(st.integers(1, 37))
    outputs = channels if depthwise else draw(st.integers(1, 37))
    kernel, stride, dilation = draw(PAIRS), draw(PAIRS), draw(PAIRS)
    padding = Padding(*(draw(st.integers(0, 2)) for _ in range(4)))
    size = [
        (k - 1) * d + 1 + draw(st.integers(0, 6)) for k, d in zip(kernel, dilation, strict=True)
    ]
    rows, columns = padding.output((size[0], size[1]), kernel, stride, dilation)
    scales = np.exp2(rng.uniform(-14, 2, 1 if unsigned else outputs)).astype(np.float32)
    zeros = rng.integers(low, high + 1, 1 if unsigned else outputs) if unsigned else 0 * scales
    axis = None if unsigned else 3 if depthwise else 0

    def value(name: str, shape: tuple[int, ...], data: Array | None = None) -> Value:
        each = Quantization.per_tensor(
            float(np.exp2(rng.uniform(-8, 0))), int(rng.integers(low, high + 1))
        )
        return Value(name, TensorType(dtype, shape, each), data)

    shape = (1, *kernel, channels) if depthwise else (outputs, *kernel, channels)
    content = rng.integers(low, high + 1, shape).astype(dtype.numpy)
    quantization = Quantization(tuple(float(s) for s in scales), tuple(int(z) for z in zeros), axis)
    weights = Value("w", TensorType(dtype, shape, quantization), content)
    bias = None
    if draw(st.booleans()):
        most = draw(st.sampled_from([1000, 2**31 - 1]))
        numbers = rng.integers(-most, most, outputs).astype(np.int32)
        bias = Value("b", TensorType(DType.INT32, (outputs,)), numbers)
    image = value("x", (draw(st.integers(1, 2)), size[0], size[1], channels))
    kind = DepthwiseConv2D if depthwise else Conv2D
    op = kind(
        input=image, weights=weights, bias=bias,
        output=value("y", (image.shape[0], rows, columns, outputs)),
        stride=stride, dilation=dilation, padding=padding,
        activation=draw(st.sampled_from([Activation.NONE, Activation.RELU6])),
    )  # fmt: skip
    return op, rng.integers(low, high + 1, image.shape).astype(dtype.numpy)


@settings(max_examples=200)
@given(operations())
def test_the_loop_equals_numpy(case: tuple[Conv2D | DepthwiseConv2D, Array]) -> None:
    op, x = case
    if min(op.output.shape) == 0:
        return
    bias = None if op.bias is None else op.bias.data
    assert op.weights.data is not None
    have = op._in_one_pass(x, op.weights.data, bias)
    with patch.object(type(op), "_in_one_pass", return_value=None):
        (want,) = op.evaluate(x, op.weights.data, bias)
    assert have is not None
    np.testing.assert_array_equal(have, want)
    assert have.dtype == want.dtype


def test_weights_and_biases_that_are_computed() -> None:
    rng = np.random.default_rng(3)
    each = Quantization.per_tensor(0.05, 3)
    shapes = {"x": (1, 5, 5, 3), "w": (4, 2, 2, 3), "y": (1, 4, 4, 4)}
    types = {name: TensorType(DType.UINT8, shape, each) for name, shape in shapes.items()}
    x, w, y = (Value(name, kind) for name, kind in types.items())
    op = Conv2D(input=x, weights=w, bias=Value("b", TensorType(DType.INT32, (4,))), output=y)
    for _ in range(2):
        arrays = [rng.integers(0, 256, types[n].shape).astype(np.uint8) for n in "xw"]
        bias = rng.integers(-900, 900, 4).astype(np.int32)
        (have,) = op.evaluate(*arrays, bias)
        with patch.object(Conv2D, "_in_one_pass", return_value=None):
            np.testing.assert_array_equal(have, op.evaluate(*arrays, bias)[0])


ONE = Multiplier(np.array(1 << 30), np.array(1))


@pytest.mark.parametrize(
    ("multiplier", "clamp"),
    [
        (Multiplier(np.array(INT32_MIN), np.array(0)), (0, 255)),
        (Multiplier(np.array(1 << 30), np.array(32)), (0, 255)),
        (ONE, (0, 256)),
        (ONE, (9, 8)),
    ],
)
def test_what_the_loop_cannot_do_is_left_to_numpy(
    multiplier: Multiplier, clamp: tuple[int, int]
) -> None:
    assert eight.finishing(ONE, None, 3, 0, (0, 255)) is not None
    assert eight.finishing(multiplier, None, 3, 0, clamp) is None


def test_types_and_sizes_that_are_left_to_numpy() -> None:
    def kind(dtype: DType, zero: int = 0, side: int = 4) -> TensorType:
        return TensorType(dtype, (1, side, 4, 4), Quantization.per_tensor(1.0, zero))

    fine = kind(DType.UINT8)
    assert eight.covers((fine, fine, fine), (1, 1))
    assert not eight.covers((fine, fine, fine), (1 << 25, 1))
    assert not eight.covers((fine, fine, kind(DType.INT8)), (1, 1))
    assert not eight.covers((kind(DType.INT16),) * 3, (1, 1))
    assert not eight.covers((fine, kind(DType.UINT8, 300), fine), (1, 1))
    assert not eight.covers((kind(DType.UINT8, 0, 1 << 25), fine, fine), (1, 1))


X, PANEL = np.zeros((4, 4, 3), np.uint8), np.zeros((1, 2, 32), np.int16)
LANES, GEOMETRY, ALL = np.zeros(16, np.int32), ((1, 1), (1, 1), (1, 1), (0, 0)), (0, 4, 4)
END = (LANES, LANES, LANES, LANES, 0, 0, 255)
OUT = np.zeros((4, 4, 7), np.uint8)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({0: X[0]}, "x: has 2 dimensions of 'B', must have 3 of 'bB'"),
        ({0: X.astype(np.int32)}, "x: has 3 dimensions of 'i'"),
        ({0: np.zeros((4, 4, 5), np.uint8)}, "convolve: shapes do not belong together"),
        ({0: X[:, :, :0].copy()}, "convolve: shapes do not belong together"),
        ({1: 256}, "convolve: a factor, shift or limit is out of range"),
        ({2: PANEL[:, :1].copy()}, "convolve: shapes do not belong together"),
        ({3: (2, 1)}, "convolve: shapes do not belong together"),
        ({4: (0, 1)}, "window: a size is not positive"),
        ({7: (1, 4, 4)}, "convolve: shapes do not belong together"),
        ({7: (0, 4, 5)}, "convolve: shapes do not belong together"),
        ({8: (LANES[:15], *END[1:])}, "convolve: shapes do not belong together"),
        ({8: (LANES, LANES, LANES + 32, *END[3:])}, "a factor, shift or limit"),
        ({8: (LANES, LANES, LANES, LANES - 1, *END[4:])}, "a factor, shift or limit"),
        ({8: (LANES, LANES + INT32_MIN, *END[2:])}, "a factor, shift or limit"),
        ({8: (*END[:4], 0, 9, 8)}, "a factor, shift or limit"),
        ({9: np.zeros((4, 4, 17), np.uint8)}, "convolve: shapes do not belong together"),
        ({9: OUT[:3].copy()}, "convolve: shapes do not belong together"),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[int, Any], text: str) -> None:
    arguments: list[Any] = [X, 0, PANEL, *GEOMETRY, ALL, END, OUT.copy()]
    _eight.convolve(*arguments)
    for index, value in changes.items():
        arguments[index] = value
    with pytest.raises(ValueError, match=text):
        _eight.convolve(*arguments)


def test_depthwise_refuses_weights_of_other_channels() -> None:
    weights = np.zeros((2, 1, 16), np.int32)
    with pytest.raises(ValueError, match="depthwise: shapes do not belong together"):
        _eight.depthwise(X, 0, weights, *GEOMETRY, ALL, END, OUT.copy())
