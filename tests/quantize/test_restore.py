"""Files whose weights are not float32 but could be: float16, dynamic range, weights only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from teflon.errors import ModelError
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.inspect.precision import precision_of
from teflon.ir.builder import Builder
from teflon.ir.ops import Opaque
from teflon.quantize.changes import measure
from teflon.quantize.library import library, quiet
from teflon.quantize.settings import FLOAT, INT8, Settings
from teflon.quantize.tflite_model import TFLiteModel
from teflon.quantize.tflite_restore import restored
from tests.quantize.helpers import mobilenet, small


def made(content: bytes, algorithm: str, weights: dict[str, Any], **how: Any) -> bytes:
    """Return a model whose weights ai-edge-quantizer has stored in another type."""
    quantizer = library("ai_edge_quantizer.quantizer", "ai-edge-quantizer")
    config = {"weight_tensor_config": weights, **how}
    row = {"regex": ".*", "operation": "*", "algorithm_key": algorithm, "op_config": config}
    with quiet():
        found = quantizer.Quantizer(content, [row]).quantize(
            enable_progress_bar=False, enable_progress_report=False
        )
    return bytes(found.quantized_model)


EIGHT = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
HALF = {"num_bits": 16, "dtype": "FLOAT"}
UNIFORM = "min_max_uniform_quantize"
KINDS = {
    "float16": ("float_casting", HALF, {"compute_precision": "FLOAT", "explicit_dequantize": True}),
    "dynamic": (UNIFORM, EIGHT, {"compute_precision": "INTEGER", "explicit_dequantize": False}),
    "weights": (UNIFORM, EIGHT, {"compute_precision": "FLOAT", "explicit_dequantize": True}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_become_float32_again(kind: str) -> None:
    algorithm, weights, how = KINDS[kind]
    stored = made(mobilenet(), algorithm, weights, **how)
    want = "float16" if kind == "float16" else "dynamic"
    assert precision_of(read(stored)).foreign == want
    content, signature = restored(stored, "m")
    assert signature == "serving_default"
    assert set(precision_of(read(content)).macs) == {"float32"}
    rng = np.random.default_rng(0)
    sample = {"input": rng.uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32)}
    before, after = (TFLiteModel("m", c).probe().run(sample)[1][0] for c in (mobilenet(), content))
    np.testing.assert_allclose(after, before, atol=0.1)


def test_dynamic_range_weights_are_not_rounded_again() -> None:
    """8 bits with the same scales: quantising gives the weights that were there."""
    algorithm, weights, how = KINDS["dynamic"]
    stored = made(small(), algorithm, weights, **how)
    samples = [{"x": np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype(np.float32)}]
    again = TFLiteModel("m", stored).quantized(samples, Settings())

    def constants(content: bytes) -> list[bytes]:
        found = [v.data for v in read(content).constants if v.type.rank == 4]
        return [data.tobytes() for data in found if data is not None]

    assert len(constants(stored)) == 2
    assert constants(again) == constants(stored)


def test_a_float32_file_stays_as_it_is() -> None:
    assert restored(small(), "m") == (small(), "serving_default")


def test_a_signature_is_added_where_there_is_none() -> None:
    content, signature = restored(small(signature=False), "m")
    assert signature == "serving_default"
    assert read(content).input_names == ("x",)
    assert TFLiteModel("m", small(signature=False)).inputs[0].name == "x"


def test_several_signatures_are_refused() -> None:
    tools = library("ai_edge_litert.tools.flatbuffer_utils", "ai-edge-litert")
    model = tools.read_model_from_bytearray(bytearray(small()))
    model.signatureDefs = [*model.signatureDefs, model.signatureDefs[0]]
    content = bytes(tools.convert_object_to_bytearray(model))
    with pytest.raises(ModelError, match=r"^m: has 2 signatures \(serving_default, "):
        TFLiteModel("m", content)


@pytest.mark.parametrize("io", [FLOAT, INT8])
def test_an_output_that_is_read_inside(io: str) -> None:
    """What reads it gets the 8-bit numbers, not the float ones for users."""
    b, rng = Builder("two"), np.random.default_rng(2)
    x = b.input("x", "f32", (1, 8, 8, 4))
    weights = rng.normal(0, 0.3, (8, 3, 3, 4)).astype(np.float32)
    y = b.conv2d(x, weights, np.ones(8, np.float32), name="features")
    b.output(y, b.mean(y, name="mean"))
    model = TFLiteModel("m", write(b.build()))
    samples = [{"x": rng.normal(size=(1, 8, 8, 4)).astype(np.float32)} for _ in range(6)]
    content = model.quantized(samples, Settings(io=io))
    found = measure(model.probe(), model.probe(content), samples)
    assert {out.name for out in found.outputs} == {"features", "mean"}
    assert all(out.noise.decibels > 30 for out in found.outputs)
    assert read(content).output_names == ("features", "mean")
    assert not any(isinstance(op, Opaque) for op in read(content).ops)
