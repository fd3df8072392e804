"""Typed, quantised graphs: what every frontend makes and every driver reads."""

from teflon.ir.graph import Cut, Graph, Op, Origin, State, Value
from teflon.ir.types import Activation, Array, DType, Padding, Quantization, TensorType

__all__ = [
    "Activation",
    "Array",
    "Cut",
    "DType",
    "Graph",
    "Op",
    "Origin",
    "Padding",
    "Quantization",
    "State",
    "TensorType",
    "Value",
]
