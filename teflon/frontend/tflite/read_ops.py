"""Which function reads which TFLite operator; and what to do where none can."""

from __future__ import annotations

from collections.abc import Callable

from teflon.errors import UnsupportedOperation
from teflon.frontend.tflite import read_compute as compute
from teflon.frontend.tflite import read_movement as movement
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.node import NodeView, reshaped
from teflon.frontend.tflite.versions import LATEST
from teflon.ir import Op, Value, ops

MAX_ELEMENTS = 1 << 40
"""A result beyond this is a mistake, not a model."""

READERS: dict[str, Callable[[NodeView], Op | tuple[Op, ...]]] = {
    "ABS": compute.unary(ops.Abs),
    "ADD": compute.binary(ops.Add, "AddOptions"),
    "AVERAGE_POOL_2D": compute.pool(ops.AveragePool2D),
    "CONCATENATION": movement.concatenation,
    "CONV_2D": compute.conv2d,
    "DEPTHWISE_CONV_2D": compute.depthwise_conv2d,
    "DEQUANTIZE": compute.dequantize,
    "FULLY_CONNECTED": compute.fully_connected,
    "HARD_SWISH": compute.unary(ops.HardSwish),
    "LEAKY_RELU": compute.leaky_relu,
    "LOGISTIC": compute.unary(ops.Logistic),
    "MAXIMUM": compute.pick(ops.Maximum),
    "MAX_POOL_2D": compute.pool(ops.MaxPool2D),
    "MEAN": compute.mean,
    "MINIMUM": compute.pick(ops.Minimum),
    "MUL": compute.binary(ops.Mul, "MulOptions"),
    "PACK": movement.pack,
    "PAD": movement.pad,
    "PADV2": movement.pad,
    "QUANTIZE": compute.quantize,
    "RELU": compute.unary(ops.Relu),
    "RELU6": compute.unary(ops.Relu6),
    "RELU_N1_TO_1": compute.unary(ops.ReluN1To1),
    "RESHAPE": movement.reshape,
    "RESIZE_BILINEAR": compute.resize(ops.ResizeBilinear, "ResizeBilinearOptions"),
    "RESIZE_NEAREST_NEIGHBOR": compute.resize(
        ops.ResizeNearestNeighbor, "ResizeNearestNeighborOptions"
    ),
    "SLICE": movement.slice_,
    "SOFTMAX": compute.softmax,
    "SPLIT": movement.split,
    "SQUEEZE": movement.squeeze,
    "STRIDED_SLICE": movement.strided_slice,
    "SUB": compute.binary(ops.Sub, "SubOptions"),
    "TANH": compute.unary(ops.Tanh),
    "TRANSPOSE": movement.transpose,
    "TRANSPOSE_CONV": compute.transpose_conv,
    "UNPACK": movement.unpack,
}
"""Builtin operator -> the function that reads it."""

CUSTOM_READERS: dict[str, Callable[[NodeView], Op | tuple[Op, ...]]] = {
    schema.DETECTION: compute.detection,
}
"""Custom operator -> the function that reads it."""


def read_node(node: NodeView) -> tuple[Op, ...]:
    """Return the verified operations that an operator means.

    Raises UnsupportedOperation with the reasons where the IR has none for it.
    """
    reader = (CUSTOM_READERS if node.is_custom else READERS).get(node.name)
    if reader is None:
        node.unread("no operation of the IR for it")
    _check_version(node)
    _check_sizes(node)
    made = reader(node)
    found = [made] if isinstance(made, Op) else list(made)
    found[-1] = _inferred(node, found[-1])
    problems = [problem for op in found for problem in op.verify()]
    if problems:
        raise UnsupportedOperation(found[-1].title, problems)
    return tuple(found)


def _inferred(node: NodeView, op: Op) -> Op:
    """Give flexible results the shape that the operation infers."""
    if node.flexible.isdisjoint(op.results):
        return op
    try:
        kinds = op.infer()
    except ValueError as error:
        node.unread(str(error))
    new: dict[Value, Value] = {}
    for value, kind in zip(op.results, kinds, strict=False):
        if value in node.flexible and value.shape != kind.shape:
            node.require(kind.size <= MAX_ELEMENTS, f"output shape would be {list(kind.shape)}")
            new[value] = reshaped(value, kind.shape)
    return op.rewired(new) if new else op


def _check_version(node: NodeView) -> None:
    newest = LATEST.get(node.name, 1)
    node.require(1 <= node.version <= newest, f"version is {node.version}, known are 1 to {newest}")


def _check_sizes(node: NodeView) -> None:
    """A tensor without elements stands for a shape that only a run can tell."""
    computed = [v for v in node.inputs if v is not None and not v.is_constant]
    for value in (*computed, *node.outputs):
        node.require(value.type.size > 0, f"tensor {value.name!r} has no elements")
