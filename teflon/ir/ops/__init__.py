"""One class per operation: operands, attributes, result types, verification, exact meaning."""

from teflon.ir.ops.activation import (
    Abs,
    HardSwish,
    LeakyRelu,
    Logistic,
    Relu,
    Relu6,
    ReluN1To1,
    Softmax,
    Tanh,
)
from teflon.ir.ops.convolution import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv
from teflon.ir.ops.detection import DetectionPostProcess
from teflon.ir.ops.elementwise import Add, Maximum, Minimum, Mul, Sub
from teflon.ir.ops.movement import (
    Concatenation,
    Pack,
    Pad,
    Reshape,
    Slice,
    Split,
    Squeeze,
    StridedSlice,
    Transpose,
    Unpack,
)
from teflon.ir.ops.opaque import Opaque
from teflon.ir.ops.pooling import AveragePool2D, MaxPool2D, Mean
from teflon.ir.ops.quantize import Dequantize, Quantize
from teflon.ir.ops.resize import ResizeBilinear, ResizeNearestNeighbor

__all__ = [
    "Abs", "Add", "AveragePool2D", "Concatenation", "Conv2D", "DepthwiseConv2D", "Dequantize",
    "DetectionPostProcess", "FullyConnected", "HardSwish", "LeakyRelu", "Logistic", "MaxPool2D",
    "Maximum", "Mean", "Minimum", "Mul", "Opaque", "Pack", "Pad", "Quantize", "Relu", "Relu6",
    "ReluN1To1", "Reshape", "ResizeBilinear", "ResizeNearestNeighbor", "Slice", "Softmax", "Split",
    "Squeeze", "StridedSlice", "Sub", "Tanh", "Transpose", "TransposeConv", "Unpack",
]  # fmt: skip
