"""Quantised networks, operation by operation beside onnxruntime: at most one step apart."""

from __future__ import annotations

from collections import Counter
from functools import cache

import onnx
import pytest

from teflon.frontend.onnx.cut import OnnxOrigin
from teflon.frontend.onnx.reader import read
from teflon.ir import Graph, ops
from tests.frontend.onnx.foreign import MODELS
from tests.frontend.onnx.nets import NETS
from tests.frontend.onnx.oracle import Distances, compare, tensors
from tests.frontend.onnx.quantisers import FEW, Form, inputs_of, quantised_net

SEEN: Counter[str] = Counter()
"""Results that were compared, by the kind of operation."""

ONNXRUNTIME_REFUSES = {
    "softmax_11": "scales for each channel below opset 13",
    "squeeze_11": "scales for each channel below opset 13",
    "resize_cubic": "cubic interpolation of integers",
    "gemm_transposed": "its quantiser does not take a product with the input turned",
    "condition": "its quantiser loses what the branches read",
    "newest_opset": "an opset newer than its kernels",
}
"""Models that onnxruntime does not write or run in some form."""


@cache
def read_model(name: str, form: Form | None) -> tuple[onnx.ModelProto, Graph]:
    model = MODELS[name]() if form is None else quantised_net(name, form)
    shapes = {
        v.name: [d.dim_value or 12 for d in v.type.tensor_type.shape.dim] for v in model.graph.input
    }
    fixed = all(d.dim_value for v in model.graph.input for d in v.type.tensor_type.shape.dim)
    data = model.SerializeToString()
    return model, read(data, name) if fixed else read(data, name, shapes=shapes)


def distances(name: str, form: Form | None) -> Distances:
    model, graph = read_model(name, form)
    assert isinstance(graph.origin, OnnxOrigin)
    theirs = tensors(model, inputs_of(model, seed=7))
    return compare(graph, dict(enumerate(graph.origin.names)), theirs)


def judged(name: str, form: Form | None) -> list[str]:
    """Return what is wrong with a model; nothing where onnxruntime refuses it."""
    try:
        found = distances(name, form)
    except Exception as error:
        if name in ONNXRUNTIME_REFUSES and type(error).__module__.startswith(
            ("onnxruntime", "builtins")
        ):
            return []
        raise
    SEEN.update(found.kinds)
    return [f"{form or 'as written'}: {sentence}" for sentence in found.wrong()]


@pytest.mark.parametrize("name", NETS)
def test_each_operation_is_onnxruntimes(name: str) -> None:
    assert [sentence for form in FEW for sentence in judged(name, form)] == []


@pytest.mark.parametrize("name", MODELS)
def test_each_operation_of_other_quantisers(name: str) -> None:
    assert judged(name, None) == []


def opaque(graph: Graph) -> list[str]:
    return [f"{op.kind}: {op.reason}" for op in graph.ops if isinstance(op, ops.Opaque)]
