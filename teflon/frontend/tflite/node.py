"""Show an operator of TFLite to the rows that read it, wherever it comes from.

Options come from a flatbuffer in a file, or from the structs of a runtime in a delegate; both are
here under the names of the schema's fields. The rows in `operators/` see nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.frontend.tflite import schema
from teflon.ir import Activation, Padding, Value
from teflon.ir.types import NO_PADDING

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False, repr=False)
class NodeView:
    """One operator: operands as values (None where optional and absent) and decoded options.

    `name` is a builtin operator's, or a custom one's own. `options` has the fields that are there;
    one that is left out has the schema's default. `options_type` is their table's name, "" for
    none; `custom_options` are a custom operator's bytes. Outputs in `flexible` get the shape that
    the operator gives them, the others must have it.
    """

    name: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    version: int = 1
    options_type: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    custom_options: bytes = b""
    is_custom: bool = False
    index: int = -1
    flexible: frozenset[Value] = frozenset()

    def unread(self, reason: str) -> NoReturn:
        """Give up on this operator: it stays opaque, for this reason."""
        where = self.outputs[0].name if self.outputs else str(self.index)
        raise UnsupportedOperation(f"{self.name} {where!r}", [reason])

    def require(self, good: bool, reason: str) -> None:
        """Give up unless `good`."""
        if not good:
            self.unread(reason)

    # Operands ------------------------------------------------------------------------------

    def arity(self, least: int, most: int | None, outputs: int | None) -> None:
        """Give up unless the numbers of inputs and outputs are right; None: any number."""
        have = len(self.inputs)
        if have < least or (most is not None and have > most):
            wanted = f"at least {least}" if most is None else f"{least} to {most}"
            self.unread(f"has {have} inputs, must have {least if least == most else wanted}")
        if outputs is not None and len(self.outputs) != outputs:
            self.unread(f"has {len(self.outputs)} outputs, must have {outputs}")

    def input(self, place: int, rank: int | None = None) -> Value:
        """Return an operand that must be there, of this rank if one is given."""
        value = self.inputs[place] if place < len(self.inputs) else None
        if value is None:
            self.unread(f"input {place} is absent, must be there")
        if rank is not None and value.type.rank != rank:
            self.unread(f"input {place} has shape {list(value.shape)}, must have rank {rank}")
        return value

    def optional(self, place: int) -> Value | None:
        """Return an operand that may be absent."""
        return self.inputs[place] if place < len(self.inputs) else None

    @property
    def output(self) -> Value:
        return self.outputs[0]

    def output_shaped(self, shape: tuple[int, ...]) -> Value:
        """Return the output, in this shape if its own is flexible."""
        out = self.output
        if out not in self.flexible or out.shape == shape:
            return out
        self.require(min(shape, default=0) >= 0, f"output shape would be {list(shape)}")
        return reshaped(out, shape)

    def all_inputs(self) -> tuple[Value, ...]:
        """Return all operands; none may be absent."""
        return tuple(self.input(i) for i in range(len(self.inputs)))

    def constant(self, place: int, what: str, most: int = 64) -> tuple[int, ...]:
        """Return the integers of an operand, which must be a short constant, flattened."""
        value = self.input(place)
        if value.data is None:
            self.unread(f"{what} is computed, must be constant")
        if value.data.dtype.kind != "i" or value.data.itemsize < 4:
            self.unread(f"{what} has type {value.type.dtype.value}, must be i32 or i64")
        if value.data.size > most:
            self.unread(f"{what} has {value.data.size} numbers, must have at most {most}")
        return tuple(int(n) for n in value.data.reshape(-1).tolist())

    # Options -------------------------------------------------------------------------------

    def expect(self, table: str) -> None:
        """Give up unless the options are of this table."""
        if self.options_type != table:
            have = self.options_type or "absent"
            self.unread(f"options are {have}, must be {table}")

    def option(self, name: str) -> Any:
        """Return an option, the schema's default where it is left out."""
        found = self.options.get(name)
        if found is not None:
            return found
        about = schema.fields(self.options_type)[name]
        return () if about.is_vector else about.default

    def activation(self) -> Activation:
        code = self.option("fused_activation_function")
        if not 0 <= code < len(schema.ACTIVATIONS):
            self.unread(f"fused activation is {code}, must be below {len(schema.ACTIVATIONS)}")
        return schema.ACTIVATIONS[code]

    def pair(self, name: str) -> Pair:
        """Return options `name` with h and w put in, as (y, x); both must be at least one."""
        y, x = (int(self.option(name.format(axis))) for axis in "hw")
        if min(y, x) < 1:
            self.unread(f"{name.format('h')} and w are {y} and {x}, must be at least 1")
        return y, x

    def padding(self, size: Pair, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Padding:
        """Return SAME or VALID as rows and columns on each side."""
        code = self.option("padding")
        if code not in (schema.SAME, schema.VALID):
            self.unread(f"padding is {code}, must be {schema.SAME} (SAME) or {schema.VALID}"
                        " (VALID)")  # fmt: skip
        return NO_PADDING if code == schema.VALID else Padding.same(size, kernel, stride, dilation)

    def axis(self, axis: int, rank: int, what: str = "axis") -> int:
        """Return an axis counted from the front."""
        if rank == 0:
            self.unread(f"{what} is {axis}, but the tensor has no axes (its shape is [])")
        if not -rank <= axis < rank:
            self.unread(f"{what} is {axis}, must be within {-rank} to {rank - 1}")
        return axis % rank


def reshaped(value: Value, shape: tuple[int, ...]) -> Value:
    """Return the same tensor in another shape."""
    return replace(value, type=replace(value.type, shape=shape))


def spatial(value: Value) -> Pair:
    """Return height and width of a tensor of rank 4."""
    return value.shape[1], value.shape[2]


def float32(value: float) -> float:
    """Return the nearest float32, as TFLite's kernels see an option."""
    return float(np.float32(value))
