"""Read any operator, of a file or of a runtime, as verified operations of the IR."""

from __future__ import annotations

from teflon.errors import UnsupportedOperation
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.node import NodeView, reshaped
from teflon.frontend.tflite.operators import row_of
from teflon.frontend.tflite.operators.row import Row
from teflon.ir import Op, Value

MAX_ELEMENTS = 1 << 40
"""A result beyond this is a mistake, not a model."""


def read_node(node: NodeView) -> tuple[Op, ...]:
    """Return the verified operations that an operator means.

    Raises UnsupportedOperation with the reasons where the IR has none for it.
    """
    row = row_of(node.name, node.is_custom)
    if row is None:
        node.unread(_unknown(node))
    _check_version(node, row.newest)
    _check_sizes(node)
    _check_form(node, row)
    made = row.read(node)
    found = [made] if isinstance(made, Op) else list(made)
    found[-1] = _inferred(node, found[-1])
    problems = [problem for op in found for problem in op.verify()]
    if problems:
        raise UnsupportedOperation(found[-1].title, problems)
    return tuple(found)


def _unknown(node: NodeView) -> str:
    """Return why an operator without a row is not read."""
    if node.is_custom and node.name.startswith("Flex"):
        return "is an operation of TensorFlow, which must be installed (pip install tensorflow)"
    if node.is_custom:
        return "is a custom operation, which only a runtime that was made with it can run"
    return "no operation of the IR for it"


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


def _check_version(node: NodeView, newest: int) -> None:
    node.require(1 <= node.version <= newest, f"version is {node.version}, known are 1 to {newest}")


def _check_sizes(node: NodeView) -> None:
    """Give up on tensors without elements: their shape is known only at run time."""
    computed = [v for v in node.inputs if v is not None and not v.is_constant]
    for value in (*computed, *node.outputs):
        node.require(value.type.size > 0, f"tensor {value.name!r} has no elements")


def _check_form(node: NodeView, row: Row) -> None:
    """Give up unless operands, results and options are those that the row wants."""
    node.arity(*row.inputs, row.outputs)
    if row.options and not row.optional and row.options not in schema.EMPTY_TABLES:
        node.expect(row.options)
