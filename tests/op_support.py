"""Compare graphs of one operation with the reference kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from teflon.frontend.tflite import writer as tflite_writer
from teflon.ir import Graph, Quantization, TensorType, Value
from teflon.ir.builder import Builder
from teflon.ir.types import Array, DType
from tests.counts import compare
from tests.oracle import Oracle

REAL = "f32"
BYTES = ("u8", "i8")


class Maker(Builder):
    """A builder with random quantisations, constants and inputs, all from one seed."""

    def __init__(self, seed: int) -> None:
        super().__init__("case")
        self.rng = np.random.default_rng(seed)
        self.spread = 1.0  # standard deviation of float32 numbers

    def scale(self, low: float = 0.004, high: float = 0.2) -> float:
        """Return a scale, its logarithm spread evenly."""
        return float(np.float32(np.exp(self.rng.uniform(np.log(low), np.log(high)))))

    def zero_point(self, dtype: str) -> int:
        if dtype not in BYTES:
            return 0
        low, high = DType(dtype).range
        return int(self.rng.integers(low, high, endpoint=True))

    def quantisation(self, dtype: str, scale: float | None = None) -> Quantization | None:
        if dtype not in (*BYTES, "i16"):
            return None
        return Quantization.per_tensor(scale or self.scale(), self.zero_point(dtype))

    def x(
        self, dtype: str, shape: Sequence[int], scale: float | None = None,
        quantization: Quantization | None = None,
    ) -> Value:  # fmt: skip
        """Add an input, of a random quantisation unless one is given."""
        made = quantization or self.quantisation(dtype, scale)
        value = Value(self._name("x"), TensorType(DType(dtype), tuple(shape), made))
        self._inputs.append(value)
        return value

    def numbers(self, dtype: str, shape: Sequence[int]) -> Array:
        """Return random values over the whole range of an element type."""
        if dtype == REAL:
            return self.rng.normal(0, self.spread, shape).astype(np.float32)
        if dtype == "bool":
            return self.rng.integers(0, 2, shape).astype(np.bool_)
        info = np.iinfo(DType(dtype).numpy)
        return self.rng.integers(info.min, info.max, shape, info.dtype, endpoint=True)

    def like(self, value: Value, scale: float) -> dict[str, Any]:
        """Return how a result of a value's type is described, with about this scale."""
        dtype = value.type.dtype.value
        return {"quantization": self.quantisation(dtype, scale * self.rng.uniform(0.7, 1.4))}


def run_ops(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Evaluate a graph's operations one after another."""
    values: dict[Value, Array] = dict(zip(graph.inputs, inputs, strict=True))
    values.update({v: v.data for v in graph.constants if v.data is not None})
    for op in graph.ops:
        operands = [None if v is None else values[v] for v in op.operands]
        values.update(zip(op.results, op.evaluate(*operands), strict=True))
    return [values[v] for v in graph.outputs]


def same(
    name: str, make: Callable[[Maker], Sequence[Value] | Value], seed: int, *, tolerance: float = 0
) -> None:
    """Make a case and fail unless our results equal the reference kernels' bit for bit.

    With a tolerance (of float sums, whose order differs) they may differ by that part of
    themselves, or by ten times that near zero.
    """
    b = Maker(seed)
    results = make(b)
    b.output(*([results] if isinstance(results, Value) else results))
    graph = b.build()
    inputs = [b.numbers(v.type.dtype.value, v.shape) for v in graph.inputs]
    want = Oracle(tflite_writer.write(graph)).run(inputs)
    for have, expected in zip(run_ops(graph, inputs), want, strict=True):
        if tolerance:
            np.testing.assert_allclose(have, expected, rtol=tolerance, atol=10 * tolerance)
            have, name = expected, f"{name} (within {tolerance:g})"
        wrong = compare(name, have, expected)
        first = np.argwhere(have != expected)[:1].tolist()
        assert not wrong, f"{wrong} of {expected.size} differ, the first at {first}"
