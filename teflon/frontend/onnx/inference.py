"""Types and shapes of results by the shape inference of the package onnx, node by node."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from teflon.frontend.onnx.model import Model, Node
from teflon.frontend.onnx.types import CODES, FLOAT, INT64, shape_problem
from teflon.ir.types import Array, DType

if TYPE_CHECKING:
    from onnx import TypeProto

Shape = tuple[int | None, ...]

_MOST_DATA = 1 << 12
"""Elements of a constant that decides about a shape."""


@dataclass(frozen=True, eq=False)
class Known:
    """Element type, shape as far as it is known (None: not even the rank), a constant's data."""

    code: int
    shape: Shape | None
    data: Array | None = None


def infer(model: Model, node: Node, known: Mapping[str, Known]) -> dict[str, Known]:
    """Return what is known of a node's results; nothing where there is no rule for it."""
    from onnx import defs, numpy_helper, shape_inference

    version = model.opsets.get(node.domain)
    names = [n for n in node.reads if n in known]
    if version is None or len(names) != len(node.reads):
        return {}
    data = {
        n: numpy_helper.from_array(np.array(x), n)
        for n in names
        if (x := known[n].data) is not None and x.size <= _MOST_DATA and x.dtype.kind in "fiub"
    }
    try:
        schema = defs.get_schema(node.kind, version, node.domain)
        found = shape_inference.infer_node_outputs(
            schema, node.proto, {n: _proto(known[n]) for n in names}, data,
            opset_imports=list(model.proto.opset_import), ir_version=model.proto.ir_version or 4,
        )  # fmt: skip
    except Exception:  # the C++ library's own exceptions, for malformed nodes too
        return {}
    read = {n: made for n, kind in found.items() if (made := read_type(kind)) is not None}
    return {n: _one_sided(node, k) for n, k in read.items()} if node.kind == "STFT" else read


def infer_twin(
    model: Model, node: Node, operands: Sequence[str], known: Mapping[str, Known]
) -> dict[str, Known]:
    """Return the shapes of an operator's results by the rule of ONNX's float operator.

    `operands` are those of the float one. onnxruntime's own operators have no rules here.
    """
    from onnx import NodeProto, defs

    kind = node.kind.removeprefix("QLinear").removeprefix("Q")
    if node.attributes.get("channels_last"):
        return {}
    try:
        schema = defs.get_schema(kind, model.opset, "")
    except defs.SchemaError:
        return {}
    proto = NodeProto(op_type=kind, input=operands, output=node.outputs)
    proto.attribute.extend(a for a in node.proto.attribute if a.name in schema.attributes)
    twin = dataclasses.replace(
        node, kind=kind, domain="", inputs=tuple(operands), captures=(), proto=proto
    )
    return infer(model, twin, {n: Known(FLOAT, known[n].shape) for n in operands if n in known})


def _one_sided(node: Node, known: Known) -> Known:
    """Return STFT's shape: the rule of package onnx 1.23 counts all frequencies for one side."""
    shape = known.shape
    if shape is None or len(shape) != 4 or not node.attributes.get("onesided", 1):
        return known
    count = None if shape[2] is None else shape[2] // 2 + 1
    return dataclasses.replace(known, shape=(*shape[:2], count, shape[3]))


def read_type(kind: TypeProto) -> Known | None:
    """Return a type of the file; None for one that is no tensor."""
    if kind.WhichOneof("value") != "tensor_type":
        return None
    inner = kind.tensor_type
    if not inner.HasField("shape"):
        return Known(inner.elem_type, None)
    shape = tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None
        for d in inner.shape.dim
    )
    if shape_problem([n for n in shape if n is not None]):
        return Known(inner.elem_type, None)
    return Known(inner.elem_type, shape)


def _proto(known: Known) -> Any:
    from onnx import helper

    return helper.make_tensor_type_proto(known.code, known.shape)


def code_of(data: Array) -> int:
    """Return ONNX's number of a numpy array's element type."""
    return CODES.get(DType.of(data.dtype), INT64)
