"""Channels of almost no weights: their biases and scales, in both formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir.builder import Builder
from teflon.ir.ops.accumulating import Accumulating
from teflon.ir.types import Array
from teflon.quantize.changes import measure
from teflon.quantize.model import FloatModel, open_float_model
from teflon.quantize.settings import Settings
from teflon.quantize.tflite_repair import with_whole_biases
from tests.quantize.helpers import small_onnx

RNG = np.random.default_rng(8)
SAMPLES = [{"x": RNG.normal(size=(1, 16, 16, 3)).astype(np.float32)} for _ in range(8)]
KINDS = ("conv2d", "depthwise_conv2d", "fully_connected", "transpose_conv")


def quiet_channel(kind: str, weight: float) -> bytes:
    """A layer of 6 channels; channel 2 has only such weights and a bias of 0.5."""
    b, rng = Builder(), np.random.default_rng(7)
    x = b.input("x", "f32", (1, 16, 16, 3))
    bias = rng.normal(0, 0.3, 6).astype(np.float32)
    bias[2] = 0.5

    def weights(*shape: int, axis: int = 0) -> Array:
        found = rng.normal(0, 0.3, shape).astype(np.float32)
        found[(slice(None),) * axis + (2,)] = weight
        return found

    if kind == "conv2d":
        y = b.conv2d(x, weights(6, 3, 3, 3), bias)
    elif kind == "depthwise_conv2d":
        y = b.depthwise_conv2d(x, weights(1, 3, 3, 6, axis=3), bias)
    elif kind == "transpose_conv":
        y = b.transpose_conv(
            x, weights(6, 2, 2, 3), bias, size=(32, 32), stride=2, padding="valid"
        )  # fmt: skip
    else:
        y = b.fully_connected(b.reshape(x, (1, 768)), weights(6, 768), bias)
    b.output(y)
    return write(b.build())


def sqnr(model: FloatModel, content: bytes) -> float:
    return measure(model.probe(), model.probe(content), SAMPLES).outputs[0].noise.decibels


@pytest.mark.parametrize("per_tensor", [False, True], ids=["channel", "tensor"])
@pytest.mark.parametrize("weight", [0, 1e-38, 1e-12, 3e-7])
@pytest.mark.parametrize("kind", KINDS)
def test_biases_of_quiet_channels_stay(
    kind: str, weight: float, per_tensor: bool, tmp_path: Path
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(quiet_channel(kind, weight))
    model = open_float_model(path)
    content = model.quantized(SAMPLES, Settings(per_tensor))
    assert sqnr(model, content) > 30
    (op,) = (op for op in read(content).ops if isinstance(op, Accumulating))
    how = op.weights.type.quantization
    assert how is not None
    assert min(how.scales) > 7e-9
    assert op.bias is not None
    assert op.bias.data is not None
    assert np.abs(op.bias.data.astype(np.int64)).max() <= (1 << 30) + 1


def test_nothing_else_changes(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(quiet_channel("conv2d", 0.2))
    model = open_float_model(path)
    content = model.quantized(SAMPLES, Settings())
    assert with_whole_biases(content, path.read_bytes()) == content


def test_quiet_channels_of_onnx(tmp_path: Path) -> None:
    """A scale of 1e-35 would keep the layer off most chips."""
    made = small_onnx()
    for constant in made.graph.initializer:
        if constant.name in ("w1", "b1"):
            array = onnx.numpy_helper.to_array(constant).copy()
            array[3] = 1e-33 if constant.name == "w1" else 0
            constant.CopyFrom(onnx.numpy_helper.from_array(array, constant.name))
    onnx.save(made, tmp_path / "m.onnx")
    model = open_float_model(tmp_path / "m.onnx").with_shapes({"image": (1, 3, 16, 16)})
    samples = [{"image": s["x"].transpose(0, 3, 1, 2)} for s in SAMPLES]
    content = model.quantized(samples, Settings())
    assert measure(model.probe(), model.probe(content), samples).outputs[0].noise.decibels > 25
    found = onnx.ModelProto.FromString(content)
    scales = [onnx.numpy_helper.to_array(c) for c in found.graph.initializer if "_scale" in c.name]
    inner = [s for s in scales if s.size == 16]
    assert inner
    assert min(float(s.min()) for s in inner) > 1e-12
