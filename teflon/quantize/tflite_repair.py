"""Repairs what ai-edge-quantizer writes for channels of almost no weights: biases beyond 32 bits.

A bias is stored by input scale times weight scale. Where a channel's weights are all about zero, as
many channels of trained nets are, that scale is so small that the bias does not fit in int32, and
it is cut off. Such a channel needs a larger weight scale: its weights become zeros, its bias fits.
# Ref: ONNX Runtime, quantization/base_quantizer.py, adjust_weight_scale_for_int32_bias
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from teflon.ir.types import Array
from teflon.quantize.library import library
from teflon.quantize.settings import LEAST_RANGE

_RUNTIME = "ai-edge-litert"
_LARGEST = float(1 << 30)
"""Of a bias; the sums of products are added to it, in 32 bits too."""
_CHANNEL_AXIS = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0}
_OPERANDS = {"TRANSPOSE_CONV": (2, 1, 3)}
"""Which operands are input, weights and bias: 0, 1 and 2 in other operations."""


def with_whole_biases(content: bytes, original: bytes) -> bytes:
    """Return an 8-bit model whose biases are those of the float model that it was made from.

    Only scales, weights and biases of channels change whose bias is beyond 2**30, or whose weights
    are below LEAST_RANGE; in place.
    """
    data = bytearray(content)
    file = _File(data)
    real = {name: array for name, array in _File(bytearray(original)).constants()}
    for kind, x, weights, bias in file.accumulating():
        wanted, kernel = real.get(_name(bias)), real.get(_name(weights))
        if wanted is None or kernel is None or file.uses[_name(weights)] != 1:
            continue
        _widen(file, kind, x, weights, bias, wanted, kernel)
    return bytes(data)


def _widen(
    file: _File, kind: str, x: Any, weights: Any, bias: Any, wanted: Array, kernel: Array
) -> None:
    """Give channels whose bias does not fit a larger scale."""
    s_x, s_w, s_b = (_scales(tensor) for tensor in (x, weights, bias))
    stored_w, stored_b = file.data(weights, np.int8), file.data(bias, np.int32)
    if len(s_x) != 1 or stored_w is None or stored_b is None or len(s_w) != len(s_b):
        return
    need = np.abs(wanted.astype(np.float64))
    if len(s_w) == 1:  # per tensor: the largest bias decides
        need = need.max(keepdims=True)
    least = np.maximum(need / (float(s_x[0]) * _LARGEST), LEAST_RANGE / 127)
    small = np.flatnonzero(s_w < least)
    if not len(small) or len(s_w) not in (1, len(wanted)):
        return
    s_w[small] = least[small]
    s_b[small] = s_x[0] * s_w[small]
    axis = _CHANNEL_AXIS[kind]
    along = [1] * kernel.ndim
    along[axis] = len(s_w)
    whole = np.round(kernel / s_w.reshape(along)).clip(-127, 127).astype(np.int8)
    stored_w[:] = whole.reshape(-1)
    stored_b[:] = np.round(wanted / s_b.astype(np.float64)).astype(np.int32)


def _scales(tensor: Any) -> Array:
    """Return a view on a tensor's scales in the file; nothing if it has none."""
    how = tensor.Quantization()
    if how is None or not how.ScaleLength():
        return np.zeros(0, np.float32)
    found: Array = how.ScaleAsNumpy()
    return found


def _name(tensor: Any) -> str:
    name: bytes = tensor.Name() or b""
    return str(name, "utf-8", "replace")


class _File:
    """Tables of a .tflite file in memory; arrays are views on it."""

    def __init__(self, content: bytearray) -> None:
        schema = library("ai_edge_litert.schema_py_generated", _RUNTIME)
        self._content = content
        self._model = schema.Model.GetRootAs(content, 0)
        self._main = self._model.Subgraphs(0)
        numbers = vars(schema.BuiltinOperator)
        self._kinds = {v: k for k, v in numbers.items() if isinstance(v, int)}
        self._float = schema.TensorType.FLOAT32
        operators = [self._main.Operators(n) for n in range(self._main.OperatorsLength())]
        self._operators = [(self._kind(op), self._inputs(op)) for op in operators]
        self.uses = Counter(_name(t) for _, inputs in self._operators for t in inputs if t)

    def _kind(self, op: Any) -> str:
        code = self._model.OperatorCodes(op.OpcodeIndex())
        number: int = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        return str(self._kinds.get(number, ""))

    def _inputs(self, op: Any) -> list[Any]:
        numbers = [op.Inputs(n) for n in range(op.InputsLength())]
        return [self._main.Tensors(n) if n >= 0 else None for n in numbers]

    def accumulating(self) -> Iterator[tuple[str, Any, Any, Any]]:
        """Yield kind, input, weights and bias of the operations that sum up products."""
        for kind, inputs in self._operators:
            places = _OPERANDS.get(kind, (0, 1, 2))
            if kind in _CHANNEL_AXIS and len(inputs) > max(places):
                x, weights, bias = (inputs[place] for place in places)
                if bias is not None:
                    yield kind, x, weights, bias

    def constants(self) -> Iterator[tuple[str, Array]]:
        """Yield name and values of each float32 constant."""
        for number in range(self._main.TensorsLength()):
            tensor = self._main.Tensors(number)
            if tensor.Type() == self._float:
                found = self.data(tensor, np.float32)
                if found is not None:
                    yield _name(tensor), found.reshape([tensor.Shape(n) for n in
                                                        range(tensor.ShapeLength())])  # fmt: skip

    def data(self, tensor: Any, dtype: Any) -> Array | None:
        """Return a view on a constant's data, flat; None for what has no such data."""
        buffer = self._model.Buffers(tensor.Buffer())
        shape = [tensor.Shape(n) for n in range(tensor.ShapeLength())]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if buffer.DataLength() == size and size:
            inside: Array = buffer.DataAsNumpy().view(dtype)
            return inside
        if buffer.Offset() > 1 and buffer.Size() == size:
            return np.frombuffer(self._content, dtype, int(np.prod(shape)), buffer.Offset())
        return None
