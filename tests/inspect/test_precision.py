"""In which types a model multiplies, and the sentence about it."""

from __future__ import annotations

import numpy as np
import pytest

from teflon.inspect import precision
from teflon.inspect.precision import Precision, precision_of
from teflon.ir import DType, Graph, TensorType, Value
from teflon.ir.builder import Builder

F32 = DType.FLOAT32


def one(kind: str, *operands: Value | None, shape: tuple[int, ...], reason: str = "") -> Graph:
    """A graph of one operation that the IR has no class for."""
    b = Builder()
    inputs = [b.input("x", v.type.dtype, v.shape) for v in operands[:1] if v is not None]
    b.output(*b.opaque(kind, [*inputs, *operands[1:]], [TensorType(F32, shape)], reason))
    return b.build()


def constant(*shape: int, dtype: str = "f4") -> Value:
    return Builder().constant(np.zeros(shape, dtype), name="w")


def activation(*shape: int, dtype: DType = F32) -> Value:
    return Value("x", TensorType(dtype, shape))


CONV = (activation(1, 3, 8, 8), constant(16, 3, 5, 5))


@pytest.mark.parametrize(
    ("graph", "kind", "macs"),
    [
        (one("Conv", *CONV, shape=(1, 16, 8, 8)), "float32", 16 * 64 * 75),
        (one("Conv", activation(1, 6, 8, 8), constant(6, 1, 3, 3), shape=(1, 6, 8, 8)),
         "float32", 6 * 64 * 9),
        (one("ConvTranspose", activation(1, 4, 8, 8), constant(4, 7, 2, 2), shape=(1, 7, 16, 16)),
         "float32", 4 * 64 * 28),
        (one("Gemm", activation(1, 64), constant(64, 10), shape=(1, 10)), "float32", 640),
        (one("Gemm", activation(1, 64), constant(10, 64), shape=(1, 10)), "float32", 640),
        (one("MatMul", activation(5, 64), constant(64, 10), shape=(5, 10)), "float32", 3200),
        (one("CONV_2D", activation(1, 8, 8, 3), constant(16, 5, 5, 3, dtype="i1"),
             shape=(1, 8, 8, 16)), "dynamic", 16 * 64 * 75),
        (one("DEPTHWISE_CONV_2D", activation(1, 8, 8, 6), constant(1, 3, 3, 6, dtype="i1"),
             shape=(1, 8, 8, 6)), "dynamic", 6 * 64 * 9),
        (one("CONV_2D", activation(1, 8, 8, 3, dtype=DType.INT16),
             constant(16, 1, 1, 3, dtype="i1"), shape=(1, 8, 8, 16)), "int16", 16 * 64 * 3),
        (one("FULLY_CONNECTED", activation(1, 64), constant(10, 64, dtype="f2"), shape=(1, 10)),
         "float16", 640),
        (one("QLinearConv", activation(1, 3, 8, 8, dtype=DType.UINT8), None, None,
             constant(16, 3, 1, 1, dtype="i1"), shape=(1, 16, 8, 8)), "int8", 16 * 64 * 3),
        (one("LSTM", activation(20, 1, 8), constant(1, 32, 8), constant(1, 32, 8),
             shape=(20, 1, 1, 8)), "float32", 20 * 512),
        (one("Conv", *CONV, shape=()), "float32", 16 * 75),  # an unknown shape: at least those
    ],
)  # fmt: skip
def test_operations_without_a_class_count(graph: Graph, kind: str, macs: int) -> None:
    assert precision_of(graph).macs == {kind: macs}


def test_packed_weights_are_named() -> None:
    b = Builder()
    x = b.input("x", "f32", (1, 64))
    raw = b.constant(np.zeros(320, np.uint8), name="w")
    weights = Value("w", TensorType(DType.OTHER, (320,)), raw.data)
    kinds = [TensorType(F32, (1, 10))]
    b.output(*b.opaque("FULLY_CONNECTED", [x, weights], kinds, "tensor 'w' has type INT4"))
    found = precision_of(b.build())
    assert found == Precision({"packed": 640}, "INT4")
    assert "this model has INT4 weights (100% of its multiplications): quantise the float" in (
        found.advice("m.tflite")
    )


def float_conv(b: Builder, x: Value, channels: int = 8) -> Value:
    return b.conv2d(x, np.zeros((channels, 1, 1, x.shape[3]), np.float32))


def eight_conv(b: Builder, x: Value, channels: int = 8) -> Value:
    return b.conv2d(x, np.zeros((channels, 1, 1, x.shape[3]), np.int8), np.zeros(channels, "i4"))


def mixed(float_channels: int, int_channels: int) -> Graph:
    b = Builder()
    x = b.input("x", "f32", (1, 4, 4, 2))
    eight = b.input("q", "i8", (1, 4, 4, 2), 0.1, 0)
    b.output(float_conv(b, x, float_channels), eight_conv(b, eight, int_channels))
    return b.build()


def test_a_model_of_mostly_8_bits_gets_no_advice() -> None:
    assert precision_of(mixed(4, 4)).advice("m.tflite") == ""
    assert precision_of(mixed(3, 5)).macs == {"float32": 96, "int8": 160}
    found = precision_of(mixed(6, 4)).advice("some/m.tflite")
    assert found == (
        "NPUs need 8-bit weights and activations, this model is float32 (60% of its"
        " multiplications): quantise it, teflon quantize some/m.tflite --calibrate PICTURES -o"
        " m_int8.tflite"
    )


def test_float16_weights_behind_dequantize() -> None:
    b = Builder()
    half = b.constant(np.zeros((8, 1, 1, 3), np.float16))
    weights = b.dequantize(half)
    b.output(b.conv2d(b.input("x", "f32", (1, 2, 2, 3)), weights))
    assert precision_of(b.build()).macs == {"float16": 96}


def test_8_bits_on_both_sides_of_dequantize_are_8_bits() -> None:
    """A conversion that nobody folded is no reason to quantise again."""
    b = Builder()
    x = b.dequantize(b.input("x", "i8", (1, 2, 2, 3), 0.1))
    w = b.dequantize(b.constant(np.zeros((8, 1, 1, 3), np.int8), 0.1))
    b.output(b.conv2d(x, w))
    assert precision_of(b.build()).macs == {"int8": 96}


def test_without_multiplications_the_results_count() -> None:
    for dtype, want in (("f32", "float32"), ("i8", "")):
        b = Builder()
        x = b.input("x", dtype, (1, 4), None if dtype == "f32" else 0.1)
        b.output(b.add(x, x))
        assert precision_of(b.build()).foreign == want
    b = Builder()
    b.output(b.input("x", "f32", (1, 4)))
    assert precision_of(b.build()).advice("m.tflite") == ""


@pytest.mark.parametrize("kind", list(precision._WHAT))
@pytest.mark.parametrize("path", ["m.tflite", "m.onnx", "m.ir", "m"])
def test_every_kind_has_a_sentence_of_one_line(kind: str, path: str) -> None:
    text = Precision({kind: 3}).advice(path)
    assert text.startswith("NPUs need 8-bit weights and activations, this model ")
    assert "\n" not in text
    assert "{" not in text
    assert "teflon quantize" in text
