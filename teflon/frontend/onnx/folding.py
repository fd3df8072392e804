"""Compute nodes whose operands are constants, with the reference evaluator of the package onnx."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from teflon.frontend.onnx.inference import Known, infer
from teflon.frontend.onnx.model import Model, Node
from teflon.ir.types import Array

MOST_BYTES = 64 << 20
"""A result beyond this is computed at run time instead of being kept."""

FOLDED = frozenset((
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "Constant",
    "ConstantOfShape", "Cos", "Div", "Equal", "Exp", "Expand", "EyeLike", "Flatten", "Floor",
    "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less",
    "LessOrEqual", "Log", "MatMul", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or",
    "Pad", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum",
    "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Shape", "Sign", "Sin", "Size",
    "Slice", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
))  # fmt: skip
"""Operators that shapes and masks are computed with. Random ones and control flow are not here."""

ELEMENTWISE = frozenset((
    "Abs", "Add", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor",
    "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min", "Mish",
    "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin",
    "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tan", "Tanh", "ThresholdedRelu",
))  # fmt: skip
"""Functions of one element, where their other operands are one number each."""


def fold(
    model: Model, node: Node, operands: Sequence[Array | None], known: Mapping[str, Known]
) -> list[Array] | None:
    """Return the results of a node whose operands are constants; None where that cannot be."""
    if node.domain or node.kind not in FOLDED or node.captures:
        return None
    if node.kind == "Constant" and (large := _large_constant(model, node)) is not None:
        return [large]
    if sum(x.nbytes for x in operands if x is not None) > MOST_BYTES:
        return None
    if not _is_small(model, node, known):
        return None
    return evaluate(model, node, operands)


def evaluate(model: Model, node: Node, operands: Sequence[Array | None]) -> list[Array] | None:
    """Return what the reference evaluator computes; None where it fails."""
    from onnx.reference import ReferenceEvaluator

    feeds = {n: x for n, x in zip(node.inputs, operands, strict=True) if n and x is not None}
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(node.proto, opsets=dict(model.opsets)).run(None, feeds)
    except Exception:  # it raises anything for a malformed node
        return None
    found = [np.asarray(x) for x in made]
    return found if all(x.dtype.kind in "fiub" for x in found) else None


def _large_constant(model: Model, node: Node) -> Array | None:
    """Return the tensor of a Constant, checked as initialisers are."""
    for attribute in node.proto.attribute:
        if attribute.name == "value" and attribute.HasField("t"):
            return model.to_array(attribute.t, f"node Constant {node.where!r}")
    return None


def _is_small(model: Model, node: Node, known: Mapping[str, Known]) -> bool:
    """Whether the results are known to be of a modest size."""
    if node.kind in ("Constant", "Shape", "Size"):
        return True
    if node.kind == "Range":
        return _range_count(known, node) <= MOST_BYTES
    if node.kind in ("NonZero", "EyeLike"):
        return True
    found = infer(model, node, known)
    shapes = [found[o].shape for o in node.outputs if o in found]
    sizes = [math.prod(s) for s in shapes if s is not None and None not in s]  # type: ignore[arg-type]
    return len(sizes) == sum(bool(o) for o in node.outputs) and sum(sizes) * 8 <= MOST_BYTES


def _range_count(known: Mapping[str, Known], node: Node) -> float:
    numbers: list[Any] = [known[n].data for n in node.inputs if n in known]
    if len(numbers) != 3 or any(n is None or n.size != 1 for n in numbers):
        return math.inf
    start, limit, step = (float(n.reshape(-1)[0]) for n in numbers)
    return (limit - start) / step if step else math.inf
