"""Two operands, element by element, with numpy's broadcasting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teflon.ir.graph import Op, Value
from teflon.ir.types import Activation


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Op):
    """Sum of two quantised tensors, each with its own scale."""

    mnemonic: ClassVar[str] = "add"
    tflite_name: ClassVar[str] = "ADD"

    a: Value
    b: Value
    output: Value
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Sub(Op):
    """Difference a - b."""

    mnemonic: ClassVar[str] = "sub"
    tflite_name: ClassVar[str] = "SUB"

    a: Value
    b: Value
    output: Value
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Mul(Op):
    """Product."""

    mnemonic: ClassVar[str] = "mul"
    tflite_name: ClassVar[str] = "MUL"

    a: Value
    b: Value
    output: Value
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Maximum(Op):
    """The larger; operands and result share one quantisation."""

    mnemonic: ClassVar[str] = "maximum"
    tflite_name: ClassVar[str] = "MAXIMUM"

    a: Value
    b: Value
    output: Value


@dataclass(frozen=True, eq=False, kw_only=True)
class Minimum(Op):
    """The smaller; operands and result share one quantisation."""

    mnemonic: ClassVar[str] = "minimum"
    tflite_name: ClassVar[str] = "MINIMUM"

    a: Value
    b: Value
    output: Value
