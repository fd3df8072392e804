"""How far float32 results may be from TFLite's: a case for each kind of operation, and its bound.

docs/float.md has the same bounds for users; a kind that has none computes TFLite's bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from teflon.ir import Activation, Array, Graph, Op, Value, ops
from teflon.ir.builder import Builder

STEPS = {"ELU": 2, "EXP": 2, "LOG": 2, "SOFTMAX": 3, "TANH": 4}
"""Kind -> how many float32 steps of themselves (units in the last place) results may be away."""

PARTS = {"GELU": 2.0**-22, "LOGISTIC": 2.0**-23}
"""Kind -> how far results may be away: so much, times the operand where that is above 1."""

SUMS = ("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
"""Kinds that sum products in another order than TFLite. Any sum of n numbers in float32 is within
n * 2**-24 times the sum of their magnitudes of the exact one, so two of them are within twice that.
"""

_RNG = np.random.default_rng(11)


def numbers(*shape: int) -> Array:
    return _RNG.normal(0, 1, shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """One operation of float32 on an input of a shape."""

    make: Callable[[Builder, Value], Any]
    shape: tuple[int, ...] = (1, 9, 8, 6)
    positive: bool = False

    def graph(self) -> Graph:
        b = Builder("float")
        made = self.make(b, b.input("x", "f32", self.shape))
        b.output(*(made if isinstance(made, tuple) else (made,)))
        return b.build()

    def input(self, seed: int) -> Array:
        """Return numbers of several magnitudes."""
        rng = np.random.default_rng(seed)
        x = rng.normal(0, (0.05, 1, 4)[seed % 3], self.shape)
        return (np.abs(x) if self.positive else x).astype(np.float32)


def unary(kind: type[Op], **fields: Any) -> Callable[[Builder, Value], Value]:
    return lambda b, x: b.op(kind, input=x, **fields)


CASES: dict[str, Case] = {
    "conv2d": Case(lambda b, x: b.conv2d(x, numbers(8, 3, 3, 6), numbers(8), padding="same")),
    "conv2d, clamped": Case(lambda b, x: b.conv2d(x, numbers(8, 1, 1, 6), activation="relu6")),
    "depthwise": Case(lambda b, x: b.depthwise_conv2d(x, numbers(1, 3, 3, 12), numbers(12))),
    "transpose_conv": Case(
        lambda b, x: b.transpose_conv(
            x, numbers(4, 3, 3, 6), size=(18, 16), stride=2, padding="same"
        )
    ),
    "fully_connected": Case(lambda b, x: b.fully_connected(x, numbers(10, 432), numbers(10))),
    "batch_matmul": Case(
        lambda b, x: b.op(ops.BatchMatMul, a=x, b=b.constant(numbers(1, 9, 6, 40))),
        (1, 9, 8, 6),
    ),
    "mean": Case(lambda b, x: b.mean(x, (1, 2))),
    "sum": Case(unary(ops.Sum, axes=(1, 3))),
    "average_pool": Case(lambda b, x: b.average_pool2d(x, (3, 2), padding="same")),
    "max_pool": Case(lambda b, x: b.max_pool2d(x, 2)),
    "reduce_max": Case(unary(ops.ReduceMax, axes=(1, 2))),
    "add": Case(lambda b, x: b.add(x, numbers(6), activation="relu")),
    "sub": Case(lambda b, x: b.sub(x, numbers(8, 6))),
    "mul": Case(lambda b, x: b.mul(x, numbers(1, 9, 1, 6))),
    "div": Case(lambda b, x: b.op(ops.Div, a=x, b=numbers(6))),
    "maximum": Case(lambda b, x: b.maximum(x, numbers(6))),
    "squared_difference": Case(lambda b, x: b.op(ops.SquaredDifference, a=x, b=numbers(6))),
    "floor_div": Case(lambda b, x: b.op(ops.FloorDiv, a=x, b=numbers(6))),
    "abs": Case(lambda b, x: b.abs(x)),
    "neg": Case(unary(ops.Neg)),
    "square": Case(unary(ops.Square)),
    "relu": Case(lambda b, x: b.relu(x)),
    "relu6": Case(lambda b, x: b.relu6(x)),
    "leaky_relu": Case(lambda b, x: b.leaky_relu(x, 0.3)),
    "prelu": Case(unary(ops.Prelu, alpha=numbers(1, 1, 6))),
    "hard_swish": Case(lambda b, x: b.hard_swish(x)),
    "logistic": Case(lambda b, x: b.logistic(x)),
    "tanh": Case(lambda b, x: b.tanh(x)),
    "softmax": Case(lambda b, x: b.softmax(x, 0.7)),
    "elu": Case(unary(ops.Elu)),
    "gelu": Case(unary(ops.Gelu)),
    "gelu, approximate": Case(unary(ops.Gelu, approximate=True)),
    "exp": Case(unary(ops.Exp)),
    "log": Case(unary(ops.Log), positive=True),
    "sqrt": Case(unary(ops.Sqrt), positive=True),
    "rsqrt": Case(unary(ops.Rsqrt), positive=True),
    "resize_bilinear": Case(lambda b, x: b.resize_bilinear(x, (13, 17), half_pixel_centers=True)),
    "resize_bilinear, aligned": Case(
        lambda b, x: b.resize_bilinear(x, (13, 17), align_corners=True)
    ),
    "resize_nearest": Case(lambda b, x: b.resize_nearest_neighbor(x, (13, 17))),
    "pad": Case(lambda b, x: b.pad(x, (0, 1, 2, 0), (0, 2, 0, 3))),
    "concatenation": Case(lambda b, x: b.concatenation([x, x], 3)),
    "transpose": Case(lambda b, x: b.transpose(x, (0, 3, 1, 2))),
}


def products(op: Op) -> int:
    """Return how many products, at most, are summed for one element of a result."""
    if isinstance(op, ops.Conv2D | ops.TransposeConv):
        return prod(op.weights.shape[1:]) + 1
    if isinstance(op, ops.DepthwiseConv2D):
        return prod(op.weights.shape[1:3]) + 1
    if isinstance(op, ops.FullyConnected):
        return op.weights.shape[1] + 1
    assert isinstance(op, ops.BatchMatMul)
    return op.a.shape[-2 if op.adj_a else -1]


def allowed(op: Op, operands: Sequence[Array | None], wanted: Array) -> Any:
    """Return how far each element of a float32 result may be from TFLite's, `wanted`."""
    kind = op.kind_name
    if kind in SUMS:
        (size,) = _without_clamp(op).evaluate(*(None if x is None else np.abs(x) for x in operands))
        return 2 * products(op) * 2.0**-24 * size.astype(np.float64)
    if kind in PARTS:
        x = operands[0]
        assert x is not None
        return PARTS[kind] * np.maximum(1, np.abs(x.astype(np.float64)))
    return STEPS.get(kind, 0) * np.spacing(np.abs(wanted)).astype(np.float64)


def _without_clamp(op: Any) -> Any:
    return replace(op, activation=Activation.NONE) if hasattr(op, "activation") else op


def excess(op: Op, operands: Sequence[Array | None], have: Array, wanted: Array) -> str:
    """Return by how much a result is too far away; empty if it is within its bound."""
    same = (have == wanted) | ((have != have) & (wanted != wanted))
    away = np.where(same, 0.0, np.abs(have.astype(np.float64) - wanted.astype(np.float64)))
    limit = np.broadcast_to(allowed(op, operands, wanted), away.shape)
    wrong = ~(away <= limit)
    if not wrong.any():
        return ""
    at = tuple(int(n) for n in np.argwhere(wrong)[0])
    return (
        f"{op.title}: {int(wrong.sum())} of {away.size} are too far away, the first at {list(at)}:"
        f" {have[at]} is {away[at]:.3g} from {wanted[at]}, must be within {limit[at]:.3g}"
    )
