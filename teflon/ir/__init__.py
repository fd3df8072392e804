"""Typed, quantised graphs: what every frontend makes and every driver reads."""

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.types import Activation, Array, DType, Padding, Quantization, TensorType

__all__ = [
    "Activation",
    "Array",
    "DType",
    "Graph",
    "Op",
    "Padding",
    "Quantization",
    "TensorType",
    "Value",
]
