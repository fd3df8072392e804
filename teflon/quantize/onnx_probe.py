"""Looks into .onnx models with ONNX Runtime, float ones and those with QDQ pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from teflon.ir.types import Array
from teflon.quantize.changes import Layer
from teflon.quantize.tensors import Sample

_BACK = "_DequantizeLinear_Output"
"""What ONNX Runtime appends to a tensor's name where it comes back from 8 bits."""
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "Constant", "Shape")


class OnnxProbe:
    """A loaded .onnx model whose tensors can be seen.

    Nothing is fused: a QDQ model is computed in float between its pairs, as it is written.
    """

    def __init__(self, onnx: Any, runtime: Any, model: Any) -> None:
        graph = model.graph
        self.outputs = [port.name for port in graph.output]
        self._ports = {name: _scale(graph, name, onnx) for name in self.outputs}
        made = [(name, node.op_type) for node in graph.node for name in node.output if name]
        self.layers = [Layer(name, kind) for name, kind in made if kind not in _CONVERSIONS]
        backs = {name for name, _ in made if name.endswith(_BACK)}
        self._seen = {
            name.removesuffix(_BACK): name
            for name, kind in made
            if name in backs or (kind not in _CONVERSIONS and name + _BACK not in backs)
        }
        more = [name for name in self._seen.values() if name not in self._ports]
        graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in more)
        self._inputs = _input_scales(graph, onnx)
        self._session = _session(runtime, model)
        self._names = [*self.outputs, *more]

    def run(self, sample: Sample) -> tuple[Mapping[str, Array], Sequence[Array]]:
        """See `Probe.run`."""
        feed = {name: _stored(array, self._inputs.get(name)) for name, array in sample.items()}
        found = dict(zip(self._names, self._session.run(self._names, feed), strict=True))
        tensors = {
            name: array
            for name, key in self._seen.items()
            if (array := _real(found[key], self._ports.get(key))) is not None
        }
        outputs = [_real(found[name], self._ports[name], always=True) for name in self.outputs]
        return tensors, [array for array in outputs if array is not None]


def _session(runtime: Any, model: Any) -> Any:
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = min(8, os.cpu_count() or 1)
    content = model.SerializeToString()
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


_Scale = tuple[float, int, np.dtype[Any]]
"""Scale, zero point and type of an 8-bit input or output."""


def _constants(graph: Any, onnx: Any) -> dict[str, Array]:
    return {c.name: onnx.numpy_helper.to_array(c) for c in graph.initializer}


def _scale(graph: Any, name: str, onnx: Any) -> _Scale | None:
    """Return the scale of an output that a QuantizeLinear makes."""
    maker = next((n for n in graph.node if name in n.output), None)
    if maker is None or maker.op_type != "QuantizeLinear":
        return None
    return _parameters(maker, _constants(graph, onnx))


def _input_scales(graph: Any, onnx: Any) -> dict[str, _Scale]:
    """Return the scales of inputs that only a DequantizeLinear reads."""
    found, constants = {}, None
    names = {port.name for port in graph.input}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in names:
            constants = constants or _constants(graph, onnx)
            if (scale := _parameters(node, constants)) is not None:
                found[node.input[0]] = scale
    return found


def _parameters(node: Any, constants: Mapping[str, Array]) -> _Scale | None:
    scale = constants.get(node.input[1])
    zero = constants.get(node.input[2]) if len(node.input) > 2 else np.zeros((), np.uint8)
    if scale is None or zero is None or scale.size != 1:
        return None
    return float(scale.reshape(())), int(zero.reshape(())), zero.dtype


def _stored(array: Array, how: _Scale | None) -> Array:
    if how is None or array.dtype.kind != "f":
        return array
    scale, zero, dtype = how
    info = np.iinfo(dtype)
    return (np.round(array / np.float32(scale)) + zero).clip(info.min, info.max).astype(dtype)


def _real(array: Any, how: _Scale | None, always: bool = False) -> Array | None:
    """Return a tensor as real numbers; None for one that has none."""
    if not isinstance(array, np.ndarray):
        return None
    if how is not None:
        scale, zero, _ = how
        return (array.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    return array if always or array.dtype.kind == "f" else None


def bare_ports(model: Any) -> None:
    """Let inputs and outputs be 8-bit numbers: take away what quantises and dequantises them.

    An input stays as it is where something else reads it too, an output likewise.
    """
    graph = model.graph
    for port in graph.input:
        users = [n for n in graph.node if port.name in n.input]
        if len(users) == 1 and users[0].op_type == "QuantizeLinear":
            _replace(graph, port, users[0], users[0].output[0])
    for port in graph.output:
        makers = [n for n in graph.node if port.name in n.output]
        read = any(port.name in n.input for n in graph.node)
        if len(makers) == 1 and makers[0].op_type == "DequantizeLinear" and not read:
            _replace(graph, port, makers[0], makers[0].input[0])


def _replace(graph: Any, port: Any, node: Any, inner: str) -> None:
    """Take a node between a port and a tensor away; the tensor gets the port's name and type."""
    zero = next((c for c in graph.initializer if c.name == node.input[2]), None)
    if zero is None or any(inner == other.name for other in (*graph.input, *graph.output)):
        return
    graph.node.remove(node)
    for other in graph.node:
        for names in (other.input, other.output):
            for at, name in enumerate(names):
                if name == inner:
                    names[at] = port.name
    port.type.tensor_type.elem_type = zero.data_type
