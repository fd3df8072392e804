"""In which element types a model multiplies, and what to do where NPUs cannot: they take 8 bits."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Dequantize, Opaque
from teflon.ir.ops.accumulating import Accumulating
from teflon.ir.ops.matmul import BatchMatMul
from teflon.ir.types import DType

INT8, FLOAT32, FLOAT16 = "int8", "float32", "float16"
DYNAMIC = "dynamic"
"""Weights of 8 bits, activations in float: *dynamic range* or *weight only* models."""
INT16 = "int16"
"""Activations of 16 bits, weights of 8."""
PACKED = "packed"
"""Weights of less than 8 bits, in blocks, or sparse."""

_EIGHT = (DType.INT8, DType.UINT8)
_MOST = 0.5
"""A model that does at least this part of its multiplications in 8 bits needs no advice."""


@dataclass(frozen=True)
class _Operands:
    """Where an operation that the IR has no class for has its input and its weights."""

    input: int = 0
    weights: int = 1
    channels: int = -1  # the axis of the result's (transposed: of the input's) channels
    transposed: bool = False


_RECURRENT = frozenset(
    ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "SVDF", "RNN",
     "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN", "GRU")
)  # fmt: skip
"""Every weight of these is used once for each row of the first operand."""
# Ref: LiteRT tflite/schema/schema.fbs and kernels; ONNX operators, also com.microsoft's
_MULTIPLY: Mapping[str, _Operands] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D", "FULLY_CONNECTED"), _Operands()),
    **dict.fromkeys(("BATCH_MATMUL", "Gemm", "MatMul", "FusedMatMul", "FusedGemm"), _Operands()),
    **dict.fromkeys(("MatMulInteger", "MatMulNBits"), _Operands()),
    **dict.fromkeys(("TRANSPOSE_CONV", "CONV_3D_TRANSPOSE"), _Operands(2, 1, -1, True)),
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger"), _Operands(channels=1)),
    "ConvTranspose": _Operands(channels=1, transposed=True),
    "QLinearConv": _Operands(0, 3, 1),
    **dict.fromkeys(("QLinearMatMul", "QGemm"), _Operands(0, 3)),
    **dict.fromkeys(_RECURRENT, _Operands()),
}


@dataclass(frozen=True)
class Precision:
    """How many multiplications a model does in which types.

    `macs` has the kinds above. A model that multiplies nowhere is weighed by the size of what its
    operations compute in float32 and in 8 bits instead.
    """

    macs: Mapping[str, int]
    packed: str = ""
    """The type of packed weights: INT4, for example; empty if it is not known."""

    @property
    def foreign(self) -> str:
        """The kind that most multiplications other than of 8 bits have; empty if 8 bits do most."""
        total = sum(self.macs.values())
        if not total or self.macs.get(INT8, 0) >= _MOST * total:
            return ""
        return max((kind for kind in self.macs if kind != INT8), key=lambda k: self.macs[k])

    def advice(self, model: str) -> str:
        """Return that NPUs need 8-bit weights and how to get there; empty for an 8-bit model.

        `model` is the path that the user gave.
        """
        kind = self.foreign
        if not kind:
            return ""
        share = self.macs[kind] / sum(self.macs.values())
        what = _WHAT[kind].format(share=f"{share:.0%}", packed=self.packed or "packed")
        return f"NPUs need 8-bit weights and activations, {what}: {_cure(kind, model)}"


_WHAT = {
    FLOAT32: "this model is float32 ({share} of its multiplications)",
    FLOAT16: "this model has float16 weights ({share} of its multiplications)",
    DYNAMIC: "this model has 8-bit weights but float activations"
    " (dynamic range; {share} of its multiplications)",
    INT16: "this model has 16-bit activations ({share} of its multiplications)",
    PACKED: "this model has {packed} weights ({share} of its multiplications)",
}
_ORIGINAL = (INT16, PACKED)
"""Kinds that `teflon quantize` does not take."""


def _cure(kind: str, model: str) -> str:
    path = Path(model)
    if path.suffix.lower() not in (".tflite", ".onnx"):
        return "quantise the file that it was made from (teflon quantize, for .tflite and .onnx)"
    if kind in _ORIGINAL:
        original = f"FLOAT_MODEL{path.suffix}"
        return (
            "quantise the float model that it was made from,"
            f" teflon quantize {original} --calibrate PICTURES -o {path.stem}_int8{path.suffix}"
        )
    out = path.with_name(f"{path.stem}_int8{path.suffix}").name
    return f"quantise it, teflon quantize {model} --calibrate PICTURES -o {out}"


def precision_of(graph: Graph) -> Precision:
    """Return in which types a graph multiplies. `graph` is as it was read, before passes."""
    macs: Counter[str] = Counter()
    for op in graph.ops:
        if (found := _multiplication(op)) is None:
            continue
        x, weights, count = found
        kind = _kind(_stored(graph, x), _stored(graph, weights))
        macs[kind] += count
    if not sum(macs.values()):
        macs = Counter(dict(_results(graph)))
    return Precision(dict(macs), _packed_type(graph) if macs[PACKED] else "")


def _packed_type(graph: Graph) -> str:
    """Return the type of packed weights as the reader names it; empty if it names none."""
    reasons = (op.reason for op in graph.ops if isinstance(op, Opaque))
    found = (re.search(r"has type (\w+)", reason) for reason in reasons)
    return next((match[1] for match in found if match), "")


def _multiplication(op: Op) -> tuple[Value, Value, int] | None:
    """Return input, weights and number of multiplications; None for an op that has no weights."""
    if isinstance(op, Accumulating):
        return op.input, op.weights, op.macs
    if isinstance(op, BatchMatMul):
        return op.a, op.b, op.macs
    if not isinstance(op, Opaque) or (places := _MULTIPLY.get(op.kind)) is None:
        return None
    if max(places.input, places.weights) >= len(op.inputs):
        return None
    x, weights = op.inputs[places.input], op.inputs[places.weights]
    if op.kind in _RECURRENT:
        weights = next((v for v in op.inputs[1:] if v is not None and v.is_constant), None)
    if x is None or weights is None or not op.outputs:
        return None
    return x, weights, _count(op, x, weights, places)


def _count(op: Opaque, x: Value, weights: Value, places: _Operands) -> int:
    """Return the multiplications of an operation by the sizes of its tensors; 1 if unknown."""
    if op.kind in _RECURRENT:
        matrices = (v for v in op.inputs[1:] if v is not None and v.is_constant)
        rows = x.type.size // (x.shape[-1] if x.shape else 1)
        return max(1, rows * sum(_elements(v) for v in matrices if v.type.rank != 1))
    wide = x if places.transposed else op.outputs[0]
    if not -wide.type.rank <= places.channels < wide.type.rank:
        return max(1, _elements(weights))
    if not weights.is_constant:  # a product of two results: each of the output takes a row
        return max(1, op.outputs[0].type.size * x.shape[-1] if x.shape else 1)
    return max(1, wide.type.size * _elements(weights) // max(1, wide.shape[places.channels]))


def _elements(value: Value) -> int:
    """Return how many numbers a tensor has; two in each byte of packed ones."""
    return math.prod(value.shape) * (2 if value.type.dtype is DType.OTHER else 1)


def _stored(graph: Graph, value: Value) -> DType:
    """Return the type in which a tensor is kept, before it is converted to float for an op."""
    maker = graph.producer(value)
    if isinstance(maker, Dequantize):
        return maker.input.type.dtype
    if isinstance(maker, Opaque) and maker.kind in ("DEQUANTIZE", "DequantizeLinear"):
        first = maker.inputs[0]
        return value.type.dtype if first is None else first.type.dtype
    return value.type.dtype


def _kind(x: DType, weights: DType) -> str:
    if weights is DType.OTHER:
        return PACKED
    if x is DType.INT16:
        return INT16
    if weights in _EIGHT:
        return INT8 if x in _EIGHT else DYNAMIC
    return FLOAT16 if DType.FLOAT16 in (weights, x) else FLOAT32


def _results(graph: Graph) -> Iterator[tuple[str, int]]:
    """Yield the sizes of what a graph without multiplications computes in float and in 8 bits."""
    types = [v.type for op in graph.ops for v in op.results]
    yield FLOAT32, sum(t.size for t in types if t.dtype is DType.FLOAT32)
    yield INT8, sum(t.size for t in types if t.dtype in _EIGHT)
