"""A row of the table of operators: how a class of the IR is read and written."""

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


@dataclass(frozen=True, eq=False, repr=False)
class Written:
    """What a file says of an operation: operands, and the fields of its options.

    `name` and `options` replace the row's operator and its options table where they are given.
    """

    inputs: Sequence[Value | None]
    fields: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    options: str = ""
    custom_options: bytes | None = None
    states: Sequence[tuple[Value, Value]] = ()
    """Old and new contents of one variable tensor each; the new ones are no outputs in the file."""


def first_version(op: Op) -> int:
    """Return 1, for operators whose later versions add nothing that the IR has."""
    return 1


def by_type(**versions: int) -> Version:
    """Return the version for the first operand's element type, named as in the text form."""
    return lambda op: versions.get(op.inputs_present[0].type.dtype.value, 1)


def per_axis(kind: TensorType) -> bool:
    """Return whether a tensor has a scale for each index of an axis."""
    return kind.quantization is not None and kind.quantization.per_axis


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Row:
    """How files and runtimes express one class of the IR; the operator is its `tflite_name`."""

    kind: type[Op]
    read: Reader
    write: Callable[[Any], Written]
    inputs: tuple[int, int | None]
    """At least and at most so many; None is any number."""
    outputs: int | None = 1
    """Exactly so many; None is any number."""
    newest: int = 1
    """The newest version that is read: a newer one may mean something else by the same options.

    # Ref: LiteRT, tflite/core/kernels/register.cc (max_version)
    """
    version: Version = first_version
    options: str = ""
    """The schema's table of options. A file must have it where the table has fields."""
    optional: bool = False
    """Whether a file may leave out a table that has fields."""
    runtime: str = ""
    """How the runtime's struct of options begins: `name:kind`, in its order, the schema's names.

    Kinds are i32, f32, bool; `padding`, `mirror` and `type`, which the runtime numbers in its own
    way; [i32], which is eight numbers and how many of them count.

    # Ref: LiteRT, tflite/core/c/builtin_op_data.h
    """
    states: tuple[int, ...] = ()
    """Places of operands that are variable tensors: their old contents; the new ones are results
    after those of the file, in this order.
    """
    also: tuple[str, ...] = ()
    """Other operators that mean the class."""

    @property
    def name(self) -> str:
        return self.kind.tflite_name

    @property
    def struct(self) -> dict[str, str]:
        """The fields of the runtime's struct by name, with their kinds."""
        fields = (text.partition(":") for text in self.runtime.split())
        return {name: kind for name, _, kind in fields}

    @property
    def is_custom(self) -> bool:
        return self.name not in schema.BUILTIN_OPERATORS


def unary(
    kind: type[Any], newest: int, version: Version = first_version, options: str = ""
) -> Row:  # fmt: skip
    """Return the row of an operation that has one operand and no attributes."""

    def read(node: NodeView) -> Op:
        made: Op = kind(input=node.input(0), output=node.output, index=node.index)
        return made

    def write(op: Any) -> Written:
        return Written([op.input])

    return Row(
        kind=kind, read=read, write=write, inputs=(1, 1), newest=newest, version=version,
        options=options,
    )  # fmt: skip
