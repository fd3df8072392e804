"""Quantised twins of onnx's own cases: the same node between Q and DQ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from teflon.frontend.onnx.cut import OnnxOrigin
from teflon.frontend.onnx.reader import read
from teflon.ir import ops
from teflon.ir.types import Array
from tests.frontend.onnx.builder import Net
from tests.frontend.onnx.nodes import Case, cases
from tests.frontend.onnx.oracle import Distances, compare, tensors

QUANTISED = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu",
    "Concat", "Pow",
}  # fmt: skip
"""Operations whose further operands are quantised too; those of others are parameters."""


@dataclass(frozen=True)
class Twin:
    """A case's quantised twin, with the case's input."""

    name: str
    kind: str
    model: onnx.ModelProto
    inputs: dict[str, Array]


def twins() -> Iterator[Twin]:
    """Yield the twins of all cases that onnxruntime runs."""
    for case in cases():
        kind = case.model.graph.node[0].op_type
        if case.name.endswith("/constant"):
            continue
        try:
            model = twin(case)
            if model is not None:
                inputs = {model.graph.input[0].name: np.asarray(case.inputs[0])}
                tensors(model, inputs)
        except Exception:  # a form that opsets 13 to 23 or onnxruntime do not have
            continue
        if model is not None:
            yield Twin(case.name, kind, model, inputs)


def judged(made: Twin) -> tuple[str, Distances]:
    """Return `opaque` or `read`, and how far our results are from onnxruntime's."""
    graph = read(made.model.SerializeToString(), made.name)
    assert isinstance(graph.origin, OnnxOrigin)
    names = dict(enumerate(graph.origin.names))
    found = compare(graph, names, tensors(made.model, made.inputs))
    return "opaque" if any(isinstance(op, ops.Opaque) for op in graph.ops) else "read", found


def twin(case: Case) -> onnx.ModelProto | None:
    """Return a case of one node with Q and DQ around it; None where it has no real numbers.

    Operands but the first are constants, the weights per tensor and int8; a bias is left real.
    """
    if len(case.model.graph.node) != 1 or len(case.inputs) != len(case.model.graph.input):
        return None
    if not case.inputs or not all(_is_plain(a) for a in (*case.inputs, *case.outputs)):
        return None
    if not all(np.asarray(a).dtype == np.float32 for a in (case.inputs[0], *case.outputs)):
        return None
    n = Net(case.name, min(max(case.model.opset_import[0].version, 13), 23))
    node = onnx.NodeProto()
    node.CopyFrom(case.model.graph.node[0])
    names: dict[str, str] = {}
    for place, (value, array) in enumerate(zip(case.model.graph.input, case.inputs, strict=True)):
        names[value.name] = _operand(n, node.op_type, place, value.name, array)
    for place, name in enumerate(node.input):
        node.input[place] = names.get(name, name)
    n.nodes.append(node)
    ends = [
        n.pair(name, *_range(np.asarray(want)))
        for name, want in zip(node.output, case.outputs, strict=True)
        if name
    ]
    return n.model(*ends)


def _is_plain(array: object) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in "fiub" and array.size > 0


def _operand(n: Net, kind: str, place: int, name: str, array: Array) -> str:
    if place == 0:
        return n.pair(n.input(name, array.shape), *_range(array))
    bias = place == 2 and kind in ("Conv", "ConvTranspose", "Gemm")
    if array.dtype != np.float32 or bias or kind not in QUANTISED:
        return n.const(array, name)
    scale = float(np.abs(array[np.isfinite(array)]).max(initial=1e-3)) / 127
    steps = np.clip(np.rint(array / scale), -127, 127).astype(np.int8)
    return n.dequantize(n.const(steps), scale, np.int8(0))


def _range(array: Array) -> tuple[float, np.uint8]:
    """Return scale and zero point of uint8 for an array's range."""
    real = array[np.isfinite(array)]
    low, high = float(min(real.min(initial=0), 0)), float(max(real.max(initial=0), 0))
    scale = max((high - low) / 255, 1e-4)
    return scale, np.uint8(round(-low / scale))
