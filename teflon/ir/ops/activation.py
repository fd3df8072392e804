"""Activation functions that stand alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teflon.ir.graph import Op, Value


@dataclass(frozen=True, eq=False, kw_only=True)
class Relu(Op):
    """max(x, 0)."""

    mnemonic: ClassVar[str] = "relu"
    tflite_name: ClassVar[str] = "RELU"

    input: Value
    output: Value


@dataclass(frozen=True, eq=False, kw_only=True)
class Relu6(Op):
    """min(max(x, 0), 6)."""

    mnemonic: ClassVar[str] = "relu6"
    tflite_name: ClassVar[str] = "RELU6"

    input: Value
    output: Value


@dataclass(frozen=True, eq=False, kw_only=True)
class ReluN1To1(Op):
    """min(max(x, -1), 1)."""

    mnemonic: ClassVar[str] = "relu_n1_to_1"
    tflite_name: ClassVar[str] = "RELU_N1_TO_1"

    input: Value
    output: Value


@dataclass(frozen=True, eq=False, kw_only=True)
class LeakyRelu(Op):
    """x for x >= 0, alpha * x below."""

    mnemonic: ClassVar[str] = "leaky_relu"
    tflite_name: ClassVar[str] = "LEAKY_RELU"

    input: Value
    output: Value
    alpha: float


@dataclass(frozen=True, eq=False, kw_only=True)
class HardSwish(Op):
    """x * relu6(x + 3) / 6."""

    mnemonic: ClassVar[str] = "hard_swish"
    tflite_name: ClassVar[str] = "HARD_SWISH"

    input: Value
    output: Value


@dataclass(frozen=True, eq=False, kw_only=True)
class Logistic(Op):
    """1 / (1 + exp(-x))."""

    mnemonic: ClassVar[str] = "logistic"
    tflite_name: ClassVar[str] = "LOGISTIC"

    input: Value
    output: Value


@dataclass(frozen=True, eq=False, kw_only=True)
class Tanh(Op):
    """Hyperbolic tangent."""

    mnemonic: ClassVar[str] = "tanh"
    tflite_name: ClassVar[str] = "TANH"

    input: Value
    output: Value


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(Op):
    """exp(beta * x) normalised over the last axis."""

    mnemonic: ClassVar[str] = "softmax"
    tflite_name: ClassVar[str] = "SOFTMAX"

    input: Value
    output: Value
    beta: float = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Abs(Op):
    """Absolute value."""

    mnemonic: ClassVar[str] = "abs"
    tflite_name: ClassVar[str] = "ABS"

    input: Value
    output: Value
