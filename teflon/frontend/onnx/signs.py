"""Decide which sign the quantised tensors of a model have inside the IR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from teflon.frontend.onnx.model import Node
from teflon.frontend.onnx.tensors import EIGHT_BIT, Sign, Tensor
from teflon.ir.types import Array, DType, Quantization

_WEIGHTED = {
    "Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "QLinearConv": 3, "QLinearMatMul": 3,
    "QGemm": 3,
}  # fmt: skip
_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "MaxPool", "Slice")


def choose(
    nodes: tuple[Node, ...], makers: Mapping[str, Node], tensors: Mapping[str, Tensor]
) -> Sign:  # fmt: skip
    """Return SIGNED where weights have a scale for each output or another sign than the input,
    UNSIGNED where weights with a zero point meet signed inputs, else KEEP.
    """
    needs = set(_needs(nodes, makers, tensors))
    return next((s for s in (Sign.SIGNED, Sign.UNSIGNED) if s in needs), Sign.KEEP)


def _needs(
    nodes: tuple[Node, ...], makers: Mapping[str, Node], tensors: Mapping[str, Tensor]
) -> Iterator[Sign]:  # fmt: skip
    asymmetric = False
    for node in nodes:
        place = _WEIGHTED.get(node.kind)
        if place is None or len(node.inputs) <= place or not node.inputs[place]:
            continue
        x = _activation_type(node, makers, tensors)
        found = _weights(node, place, tensors)
        if x is None or found is None:
            continue
        dtype, zeros, several = found
        middle = 128 if dtype is DType.UINT8 else 0
        symmetric = all(z == middle for z in zeros)
        if several and symmetric:
            if x is DType.UINT8:
                yield Sign.SIGNED
        elif symmetric and x is not dtype:
            yield Sign.SIGNED
        elif not symmetric and x is DType.INT8:
            asymmetric = True
    if asymmetric:
        yield Sign.UNSIGNED


def _weights(
    node: Node, place: int, tensors: Mapping[str, Tensor]
) -> tuple[DType, tuple[int, ...], bool] | None:
    """Return type, zero points, and whether there are several scales."""
    if node.kind.startswith("Q"):
        data = [tensors[n].data if n else None for n in node.inputs[place : place + 3]]
        if len(data) < 3 or data[0] is None or data[1] is None:
            return None
        dtype = tensors[node.inputs[place]].dtype
        return (dtype, _zeros(data[2]), data[1].size > 1) if dtype in EIGHT_BIT else None
    view = tensors[node.inputs[place]].steps
    if view is None or not view.value.is_constant or view.type.dtype not in EIGHT_BIT:
        return None
    kind: Quantization | None = view.type.quantization
    return None if kind is None else (view.type.dtype, kind.zero_points, kind.per_axis)


def _zeros(data: Array | None) -> tuple[int, ...]:
    return (0,) if data is None else tuple(np.unique(data).tolist())


def _activation_type(
    node: Node, makers: Mapping[str, Node], tensors: Mapping[str, Tensor]
) -> DType | None:
    """Return the type of the quantised input of a node."""
    if node.kind.startswith("Q"):
        return tensors[node.inputs[2]].dtype if node.inputs[2] else DType.UINT8
    name = node.inputs[0]
    while (maker := makers.get(name)) is not None and maker.kind in _MOVES:
        name = maker.inputs[0] if maker.inputs else ""
    if maker is None or maker.kind != "DequantizeLinear":
        return None
    zero_name = maker.inputs[2] if len(maker.inputs) > 2 else ""
    return tensors[zero_name].dtype if zero_name else DType.UINT8
