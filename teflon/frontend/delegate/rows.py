"""Tensors and nodes of a TFLite runtime as the values and node views that our reader uses.

`native/marshal.c` makes the rows. Types, paddings and quantisations have the numbers of the
runtime, which differ from those in files.
"""

# Ref: google-ai-edge/LiteRT tflite/core/c/{common.h,c_api_types.h,builtin_op_data.h}

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from teflon.errors import ModelError, UnsupportedOperation
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.node import NodeView, reshaped
from teflon.frontend.tflite.operators import row_of
from teflon.frontend.tflite.read_ops import read_node
from teflon.ir import DType, Graph, Op, Quantization, TensorType, Value, ops

Shape = tuple[int, ...]

DYNAMIC = 4
"""The allocation type of tensors whose memory is allocated when they are computed."""

_TYPE_NAMES = (
    "NONE FLOAT32 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT16 FLOAT64 COMPLEX128"
    " UINT64 RESOURCE VARIANT UINT32 UINT16 INT4 BFLOAT16 INT2 UINT4 FLOAT8_E4M3FN FLOAT8_E5M2"
)
_TYPES = _TYPE_NAMES.split()
"""The runtime's number of an element type -> its name."""

_QUANTIZATIONS = ("no", "affine", "blockwise", "multi-axis")
_AFFINE = 1


class TensorRow(NamedTuple):
    """One tensor of the runtime; only constants of the file have `data`."""

    name: str
    type: int
    dims: tuple[int, ...]
    params: tuple[float, int]  # scale and zero point of the older form, from before 2019
    allocation: int
    data: memoryview | None
    quantization: int
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int
    is_sparse: bool
    is_variable: int
    signature: tuple[int, ...]


class NodeRow(NamedTuple):
    """One node of the runtime; `builtin_data` is the address of its options, 0 without options."""

    number: int
    builtin_code: int
    custom_name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    builtin_data: int
    custom_data: bytes


@dataclass(frozen=True)
class Node:
    """A node with its decoded options; it does not refer to memory of the runtime."""

    row: NodeRow
    name: str
    is_custom: bool
    options_type: str
    options: Mapping[str, Any]


# Options --------------------------------------------------------------------------------------

_FORMATS = {
    "bool": "?", "i32": "i", "f32": "f", "padding": "i", "mirror": "i", "type": "i", "[i32]": "9i",
}  # fmt: skip
"""Kind of a field -> how the runtime's struct has it; a list is eight numbers and their count."""

_RUNTIME_SAME, _RUNTIME_VALID = 1, 2
_CODES = {
    "mirror": {1: 0, 2: 1},  # REFLECT, SYMMETRIC; 0 is unknown
    "padding": {_RUNTIME_SAME: schema.SAME, _RUNTIME_VALID: schema.VALID},
    "type": {n: schema.TENSOR_TYPES.index(t) for n, t in enumerate(_TYPES) if t != "NONE"},
}
"""Kind of a field -> the runtime's number -> the file's."""

_DILATION_SINCE = 2
"""The first version with dilation: in older ones those fields may hold anything."""


def decode_node(row: NodeRow) -> Node:
    """Return a node with its options under the schema's names, read from the runtime's struct.

    Structs only ever grew at the end: what lies behind the fields that are known is not read.
    """
    known = 0 <= row.builtin_code < len(schema.BUILTIN_OPERATORS)
    name = schema.BUILTIN_OPERATORS[row.builtin_code] if known else f"BUILTIN_{row.builtin_code}"
    if name == "CUSTOM":
        return Node(row, row.custom_name, True, "", {})
    operator = row_of(name, is_custom=False)
    if operator is None or not operator.runtime or not row.builtin_data:
        return Node(row, name, False, "", {})
    values = struct.unpack(layout(name), _bytes_at(row.builtin_data, layout(name)))
    fields = operator.struct
    if "[i32]" in fields.values():
        numbers = values[: max(0, min(values[-1], len(values) - 1))]
        table = operator.options if numbers or not operator.optional else ""
        return Node(row, name, False, table, dict.fromkeys(fields, numbers))
    given = {
        field: _as_in_files(kind, found)
        for (field, kind), found in zip(fields.items(), values, strict=True)
        if row.version >= _DILATION_SINCE or not field.startswith("dilation_")
    }
    return Node(row, name, False, operator.options, given)


def layout(name: str) -> str:
    """Return the C layout of a builtin operator's struct as far as it is read; "" for none."""
    operator = row_of(name, is_custom=False)
    return "".join(_FORMATS[kind] for kind in operator.struct.values()) if operator else ""


def _bytes_at(address: int, form: str) -> bytes:
    return ctypes.string_at(address, struct.calcsize(form))


def _as_in_files(kind: str, found: Any) -> Any:
    codes = _CODES.get(kind)
    return found if codes is None else codes.get(found, -1)


# Tensors --------------------------------------------------------------------------------------


def value(row: TensorRow, number: int) -> tuple[Value, str]:
    """Return a tensor as a value, and why we do not support operations on it (empty: we do)."""
    kind = _TYPES[row.type] if 0 <= row.type < len(_TYPES) else f"number {row.type}"
    dtype = schema.DTYPES.get(kind, DType.OTHER)
    name = row.name or f"tensor{number}"
    reason = _reason(row, kind, dtype)
    if reason:
        data = None if row.data is None else np.frombuffer(row.data, np.uint8)
        shape = row.dims if data is None else (data.size,)
        return Value(name, TensorType(DType.OTHER, shape), data, number), reason
    type_ = TensorType(dtype, row.dims, _quantization(row, dtype))
    if row.data is None:
        return Value(name, type_, None, number), ""
    if row.data.nbytes != type_.size_bytes:
        raise ModelError(
            f"tensor {name!r}: has {row.data.nbytes} bytes, must have {type_.size_bytes} for"
            f" {dtype.value}{list(row.dims)}"
        )
    data = np.require(np.frombuffer(row.data, dtype.numpy), requirements="A").reshape(row.dims)
    data.flags.writeable = False
    return Value(name, type_, data, number), ""


def _reason(row: TensorRow, kind: str, dtype: DType) -> str:
    if row.is_sparse:
        return "is sparse"
    if row.quantization > _AFFINE:
        known = row.quantization < len(_QUANTIZATIONS)
        return f"has {_QUANTIZATIONS[row.quantization] if known else 'unknown'} quantisation"
    if row.allocation == DYNAMIC:
        return "is dynamic: its shape is unknown until it is computed"
    if any(scale <= 0 or not math.isfinite(scale) for scale in row.scales):
        return "has a scale that is not positive and finite"
    return f"has type {kind}" if dtype is DType.OTHER else ""


def _quantization(row: TensorRow, dtype: DType) -> Quantization | None:
    if dtype.numpy.kind not in "iu":
        return None
    scales, zero_points = row.scales, row.zero_points
    if not scales and row.params[0] > 0:
        scales, zero_points = (row.params[0],), (row.params[1],)
    if not scales:
        return None
    zero_points = zero_points or (0,)
    if len(scales) == 1:
        return Quantization(scales, zero_points[:1])
    if len(zero_points) == 1:
        zero_points = zero_points * len(scales)
    return Quantization(scales, zero_points, row.axis)


# Graphs ---------------------------------------------------------------------------------------


class Reader:
    """Makes a graph from nodes and tensors of a runtime."""

    def __init__(self, rows: Mapping[int, TensorRow], shapes: Mapping[int, Shape]) -> None:
        """Take the tensors by number; `shapes` has the current shape of some of them."""
        self.values: dict[int, Value] = {}
        self._reasons: dict[int, str] = {}
        self._states = {number for number, row in rows.items() if row.is_variable}
        for number, row in rows.items():
            found, self._reasons[number] = value(row, number)
            if number in shapes and shapes[number] != found.shape:
                found = reshaped(found, shapes[number])
            self.values[number] = found

    def graph(
        self, nodes: Sequence[Node], inputs: Sequence[int], outputs: Sequence[int], flexible: bool
    ) -> Graph:
        """Return the graph of some nodes, in the runtime's order.

        With `flexible` the operations decide about the shapes of their results, not the runtime.
        """
        ports = tuple(self.values[n] for n in inputs)
        found: list[Op] = []
        for node in nodes:
            for op in self._operations(node, flexible):
                found.append(op)
                self.values |= {v.index: v for v in op.results if v.index >= 0}
        results = tuple(self.values[n] for n in outputs)
        return Graph("delegated", ports, results, tuple(found))

    def view(self, node: Node, flexible: bool = False) -> NodeView:
        """Return a node in the form that the readers of TFLite operations use."""
        made = tuple(self.values[n] for n in node.row.outputs if n >= 0)
        return NodeView(
            name=node.name,
            inputs=tuple(self._operand(n) for n in node.row.inputs),
            outputs=made,
            version=node.row.version,
            options_type=node.options_type,
            options=node.options,
            custom_options=node.row.custom_data,
            is_custom=node.is_custom,
            index=node.row.number,
            flexible=frozenset(made) if flexible else frozenset(),
        )

    def _operand(self, number: int) -> Value | None:
        return None if number < 0 or number in self._states else self.values[number]

    def _operations(self, node: Node, flexible: bool) -> tuple[Op, ...]:
        view = self.view(node, flexible)
        try:
            if row_of(node.name, node.is_custom) is not None:
                self._check(view, (*node.row.inputs, *node.row.outputs))
            return read_node(view)
        except UnsupportedOperation as error:
            return (
                ops.Opaque(
                    inputs=view.inputs,
                    outputs=view.outputs,
                    kind=view.name,
                    version=view.version,
                    reason="; ".join(error.reasons),
                    index=view.index,
                ),
            )

    def _check(self, view: NodeView, numbers: Collection[int]) -> None:
        for number in numbers:
            if number in self._states:
                view.unread(f"keeps state in tensor {self.values[number].name!r}")
            if number >= 0 and self._reasons[number]:
                view.unread(f"tensor {self.values[number].name!r} {self._reasons[number]}")


def whole_graph(reader: Reader, nodes: Sequence[Node]) -> Graph:
    """Return the graph of a whole model.

    The runtime does not show the model's inputs and outputs to a delegate. So tensors that no node
    computes count as inputs, and tensors that no node reads count as outputs.
    """
    made = {n for node in nodes for n in node.row.outputs if n >= 0}
    read = {n for node in nodes for n in node.row.inputs if n >= 0}
    inputs = [n for n in sorted(read - made) if reader.values[n].data is None]
    outputs = sorted(made - read)
    graph = reader.graph(nodes, inputs, outputs, flexible=False)
    return replace(graph, name="model")
