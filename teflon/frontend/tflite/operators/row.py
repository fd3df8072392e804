"""What a row of the table of operators says: how a file means a class of the IR, both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.node import NodeView
from teflon.ir import Op, TensorType, Value

Reader = Callable[[NodeView], Op | tuple[Op, ...]]
"""Returns the operations that an operator means; gives up with `NodeView.unread`."""

Version = Callable[[Any], int]
"""Returns the first version of an operator that can do what an operation asks.

# Ref: LiteRT, tflite/tools/versioning/op_version.cc
"""


@dataclass(frozen=True)
class Written:
    """An operation as a file says it: operands, and the fields of its options.

    `name` and `options` replace the row's operator and its options table where they are given.
    """

    inputs: Sequence[Value | None]
    fields: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    options: str = ""
    custom_options: bytes | None = None


def first_version(op: Op) -> int:
    """Return 1: the operator never changed, or not for what the IR has of it."""
    return 1


def by_type(**versions: int) -> Version:
    """Return the version for the first operand's element type, named as in the text form."""
    return lambda op: versions.get(op.inputs_present[0].type.dtype.value, 1)


def per_axis(kind: TensorType) -> bool:
    """Return whether a tensor has a scale for each index of an axis."""
    return kind.quantization is not None and kind.quantization.per_axis


@dataclass(frozen=True, kw_only=True)
class Row:
    """One class of the IR and the operator that means it, named by the class's `tflite_name`.

    `inputs` and `outputs` say how many there may be: (least, most) and a number, None for any.
    `options` is the table of the schema that a file must have, unless `optional` or without fields.
    `newest` is the newest version that is known: a newer one may mean something else by the same
    options. `runtime` lists the fields of the runtime's struct in its order, as the schema does.

    # Ref: LiteRT, tflite/core/kernels/register.cc (max_version)
    # Ref: LiteRT, tflite/core/c/builtin_op_data.h (structs)
    """

    kind: type[Op]
    read: Reader
    write: Callable[[Any], Written]
    inputs: tuple[int, int | None]
    outputs: int | None = 1
    newest: int = 1
    version: Version = first_version
    options: str = ""
    optional: bool = False
    runtime: str = ""
    also: tuple[str, ...] = ()  # operators that mean the class as well

    @property
    def name(self) -> str:
        return self.kind.tflite_name

    @property
    def is_custom(self) -> bool:
        return self.name not in schema.BUILTIN_OPERATORS
