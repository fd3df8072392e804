"""Data movement: the values stay, their places change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teflon.ir.graph import Op, Value
from teflon.ir.types import Activation


@dataclass(frozen=True, eq=False, kw_only=True)
class Concatenation(Op):
    """Join along an axis (non-negative); uint8 inputs with another quantisation are requantised."""

    mnemonic: ClassVar[str] = "concatenation"
    tflite_name: ClassVar[str] = "CONCATENATION"

    inputs: tuple[Value, ...]
    output: Value
    axis: int
    activation: Activation = Activation.NONE


@dataclass(frozen=True, eq=False, kw_only=True)
class Split(Op):
    """Cut into equal parts along an axis (non-negative)."""

    mnemonic: ClassVar[str] = "split"
    tflite_name: ClassVar[str] = "SPLIT"

    input: Value
    outputs: tuple[Value, ...]
    axis: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Pack(Op):
    """Join along a new axis (non-negative)."""

    mnemonic: ClassVar[str] = "pack"
    tflite_name: ClassVar[str] = "PACK"

    inputs: tuple[Value, ...]
    output: Value
    axis: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Unpack(Op):
    """Cut into slices along an axis (non-negative), which disappears."""

    mnemonic: ClassVar[str] = "unpack"
    tflite_name: ClassVar[str] = "UNPACK"

    input: Value
    outputs: tuple[Value, ...]
    axis: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Op):
    """Grow each axis; filled with the output's zero point (PAD) or with `value` (PADV2, scalar)."""

    mnemonic: ClassVar[str] = "pad"
    tflite_name: ClassVar[str] = "PAD"

    input: Value
    value: Value | None = None
    output: Value
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Op):
    """The same elements in the output's shape."""

    mnemonic: ClassVar[str] = "reshape"
    tflite_name: ClassVar[str] = "RESHAPE"

    input: Value
    output: Value


@dataclass(frozen=True, eq=False, kw_only=True)
class Squeeze(Op):
    """Drop axes of size one (non-negative; none named: all of them)."""

    mnemonic: ClassVar[str] = "squeeze"
    tflite_name: ClassVar[str] = "SQUEEZE"

    input: Value
    output: Value
    axes: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Transpose(Op):
    """Permute the axes: output axis i is input axis perm[i]."""

    mnemonic: ClassVar[str] = "transpose"
    tflite_name: ClassVar[str] = "TRANSPOSE"

    input: Value
    output: Value
    perm: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Op):
    """A box of the input: `begin` and `size` for each axis, size resolved (never -1)."""

    mnemonic: ClassVar[str] = "slice"
    tflite_name: ClassVar[str] = "SLICE"

    input: Value
    output: Value
    begin: tuple[int, ...]
    size: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class StridedSlice(Op):
    """Every stride-th element from begin to before end, as Python's slices with masks resolved.

    begin, end, strides: one for each input axis; end -1 with a negative stride means *past the
    first element*. `shrink_axes` names the axes of size one that the output does not have.
    """

    mnemonic: ClassVar[str] = "strided_slice"
    tflite_name: ClassVar[str] = "STRIDED_SLICE"

    input: Value
    output: Value
    begin: tuple[int, ...]
    end: tuple[int, ...]
    strides: tuple[int, ...]
    shrink_axes: tuple[int, ...] = ()
