"""Turn an operation of the IR into what an Operator table of the file says."""

from __future__ import annotations

from dataclasses import dataclass

from teflon.errors import ModelError
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.emit import Embedded, Table, table
from teflon.frontend.tflite.operators import row_for
from teflon.frontend.tflite.operators.row import Row
from teflon.ir import Op, Value, ops


@dataclass(frozen=True)
class Code:
    """One row of the file's operator codes."""

    builtin: int
    version: int = 1
    custom: str = ""


@dataclass(frozen=True)
class Node:
    """An operation as the file says it, with values instead of their numbers."""

    code: Code
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    options: Table | Embedded | None = None
    custom_options: bytes | None = None
    states: tuple[tuple[Value, Value], ...] = ()
    """Old and new content of each variable tensor that the operator changes."""


_CUSTOM = schema.BUILTIN_OPERATORS.index("CUSTOM")


def node_of(op: Op) -> Node:
    """Return the operator of an operation. Raises ModelError where the format has none."""
    if isinstance(op, ops.Opaque):
        return _opaque(op)
    row = row_for(type(op))
    if row is None:
        raise ModelError(f"{op.title}: the .tflite format has no operator for {op.mnemonic!r}")
    return _known(op, row)


def _known(op: Op, row: Row) -> Node:
    written = row.write(op)
    name = written.name or row.name
    version = row.version(op)
    custom = Code(_CUSTOM, version, name)
    code = custom if row.is_custom else Code(schema.BUILTIN_OPERATORS.index(name), version)
    options = written.options or row.options
    changed = {new for _, new in written.states}
    return Node(
        code,
        tuple(written.inputs),
        tuple(v for v in op.results if v not in changed),
        table(options, **written.fields) if options else None,
        written.custom_options,
        tuple(written.states),
    )


def _opaque(op: ops.Opaque) -> Node:
    """Return an operation that was not understood as it was in its file."""
    if op.options_type == "CUSTOM" or op.kind not in schema.BUILTIN_OPERATORS:
        code = Code(_CUSTOM, op.version, op.kind)
        return Node(code, op.inputs, op.outputs, custom_options=op.options)
    if op.kind in schema.STATEFUL:
        raise ModelError(
            f"{op.title}: keeps state in tensors of the file that a graph does not carry; must be"
            " an operation without state"
        )
    code = Code(schema.BUILTIN_OPERATORS.index(op.kind), op.version)
    options = Embedded(op.options_type, op.options) if op.options_type else None
    return Node(code, op.inputs, op.outputs, options)
