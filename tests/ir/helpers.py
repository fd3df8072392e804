"""Compare graphs of one operation with the reference kernels.

Random graphs for property tests, equality of graphs, random inputs for any graph.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from teflon.frontend.tflite import writer as tflite_writer
from teflon.ir import Graph, Op, State, Value, ops
from teflon.ir.builder import Builder
from teflon.ir.fields import HIGHEST, LOWEST
from teflon.ir.types import Array, DType, Padding, Quantization, TensorType
from tests.counts import compare
from tests.ir.examples import FIRST, SHAPE, Example
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


_names = st.one_of(
    st.sampled_from(["x", "y", "a/b:0", "block 3", "%", '"', "\\", "", "#2", "x#2", "é\n\t"]),
    st.text(max_size=6),
)
_scales = st.floats(0, exclude_min=True, width=32, allow_infinity=False)
_sizes = st.integers(0, 4)


@st.composite
def tensor_types(draw: st.DrawFn) -> TensorType:
    """Any element type, small shapes, any quantisation that such a type can have."""
    dtype = draw(st.sampled_from(list(DType)))
    shape = tuple(draw(st.lists(_sizes, max_size=4)))
    axis = draw(st.none() | st.integers(0, len(shape) - 1)) if shape else None
    count = draw(st.integers(0, 1)) if axis is None else shape[axis]
    scales = tuple(draw(_scales) for _ in range(count))
    low, high = dtype.range if dtype.is_quantizable else (-(2**40), 2**40)
    zero_points = tuple(draw(st.integers(low, high)) for _ in range(count))
    quantization = Quantization(scales, zero_points, axis) if count else None
    return TensorType(dtype, shape, quantization, draw(st.booleans()))


@st.composite
def values(draw: st.DrawFn, *, constant: bool = False) -> Value:
    """A value, or a constant with random bytes or one repeated number."""
    type_ = draw(tensor_types())
    data = None
    if constant:
        item = type_.dtype.numpy.itemsize
        count = 1 if draw(st.booleans()) else type_.size
        raw = draw(st.binary(min_size=item * count, max_size=item * count))
        data = np.frombuffer(raw * (type_.size if count == 1 else 1), type_.dtype.numpy)
        data = data[: type_.size].reshape(type_.shape)
        if type_.dtype is DType.BOOL:
            data = data.view("u1") % 2 == 1
    return Value(draw(_names), type_, data, draw(st.integers(-1, 1000)))


def _attribute(hint: Any) -> st.SearchStrategy[Any]:
    simple: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(LOWEST, HIGHEST),
        float: st.floats(allow_nan=False, allow_infinity=False)
        | st.floats(width=32, allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        str: _names,
        bytes: st.binary(max_size=40),
        types.NoneType: st.none(),
        Padding: st.builds(Padding, *[st.integers(0, 9)] * 4),
    }
    if hint in simple:
        return simple[hint]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(list(hint))
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(_attribute(arguments[0]), max_size=4).map(tuple)
        return st.tuples(*map(_attribute, arguments))
    return st.one_of(*map(_attribute, arguments))


def _operand(draw: st.DrawFn, hint: Any, known: list[Value]) -> Any:
    text = str(hint)
    pick = st.sampled_from(known)
    if "tuple" in text:
        several = pick | st.none() if "None" in text else pick
        return tuple(draw(st.lists(several, max_size=3)))
    return draw(pick | st.none() if "None" in text else pick)


@st.composite
def operations(draw: st.DrawFn, known: list[Value]) -> Op:
    """An operation of any class with any attributes, as its fields are declared."""
    kind = draw(st.sampled_from(ops.CLASSES))
    hints = typing.get_type_hints(kind)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if field.name == "output":
            fields["output"] = draw(values())
        elif field.name == "outputs":
            fields["outputs"] = tuple(draw(st.lists(values(), max_size=3)))
        elif "Value" in str(hint):
            fields[field.name] = _operand(draw, hint, known)
        elif field.default is dataclasses.MISSING or draw(st.booleans()):
            fields[field.name] = draw(_attribute(hint))
    return kind(**fields)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """A graph whose values come in the right order; otherwise it means nothing."""
    inputs = draw(st.lists(values(), min_size=1, max_size=3))
    kept = draw(st.lists(values(constant=True), max_size=2))
    old = [dataclasses.replace(value, data=None) for value in kept]
    known = inputs + old + draw(st.lists(values(constant=True), max_size=3))
    found: list[Op] = []
    for _ in range(draw(st.integers(0, 4))):
        op = draw(operations(known))
        known.extend(op.results)
        found.append(op)
    outputs = draw(st.lists(st.sampled_from(known), max_size=3))
    new = [draw(st.sampled_from(known)) for _ in old]
    names = tuple(draw(_names) for _ in outputs)
    own = tuple(draw(_names) for _ in old)
    return Graph(
        draw(_names),
        (*inputs, *old),
        (*outputs, *new),
        tuple(found),
        (*(v.name for v in inputs), *own),
        (*names, *own),
        states=tuple(
            State(n, v.data) for n, v in zip(own, kept, strict=True) if v.data is not None
        ),
    )


def differences(a: Graph, b: Graph) -> list[str]:
    """Return where two graphs differ in anything but identity."""
    twins = dict(zip(a.values, b.values, strict=False))
    if len(a.values) != len(b.values) or len(a.ops) != len(b.ops):
        return [f"{len(a.values)} values, {len(a.ops)} ops; {len(b.values)}, {len(b.ops)}"]
    found = [f"{v} is {w}" for v, w in twins.items() if not _same_value(v, w)]
    for one, other in zip(a.ops, b.ops, strict=True):
        if _flat(one.rewired(twins)) != _flat(other):
            found.append(f"{one} is {other}")
    for field in ("inputs", "outputs"):
        mine = tuple(twins[v] for v in getattr(a, field))
        if mine != getattr(b, field):
            found.append(f"{field} differ")
    found += [f"{s.name} is {t.name}" for s, t in zip(a.states, b.states, strict=False)
              if s.name != t.name or s.initial.tobytes() != t.initial.tobytes()]  # fmt: skip
    found += ["states differ"] * (len(a.states) != len(b.states))
    names = ("name", "input_names", "output_names")
    return found + [f"{f} differs" for f in names if getattr(a, f) != getattr(b, f)]


def _flat(op: Op) -> list[object]:
    return [type(op), *(getattr(op, f.name) for f in dataclasses.fields(op))]


def _same_value(a: Value, b: Value) -> bool:
    if (a.name, a.type, a.index) != (b.name, b.type, b.index):
        return False
    if a.data is None or b.data is None:
        return a.data is b.data
    return a.data.tobytes() == b.data.tobytes() and a.data.dtype == b.data.dtype


SAMPLES: dict[str, Example] = {kind.__name__: example for kind, example in FIRST.items()}
"""Class name -> its first example; every class but Opaque, which nobody computes."""


def sample(name: str) -> Graph:
    """Return the sample graph of a class."""
    return SAMPLES[name].graph()


def opaque_graph() -> Graph:
    """Return a graph with an operation in the middle that nobody computes."""
    b = Builder("strange")
    x = b.input("x", "u8", SHAPE, scale=0.05, zero_point=120)
    (y,) = b.opaque("GATHER_ND", [b.relu(x)], [x.type], reason="GATHER_ND is not read")
    b.output(b.relu6(y))
    return b.build()


def random_inputs(graph: Graph, seed: int = 0) -> list[Array]:
    """Return reproducible arrays over the whole range of the graph's input types.

    States have what they begin with.
    """
    rng = np.random.default_rng(seed)
    return graph.with_initial([_random(rng, v.type) for v in graph.given])


def _random(rng: np.random.Generator, type_: TensorType) -> Array:
    if type_.dtype is DType.FLOAT32:
        return rng.standard_normal(type_.shape).astype(np.float32)
    if type_.dtype is DType.BOOL:
        return rng.integers(0, 2, type_.shape).astype(np.bool_)
    low, high = type_.dtype.range
    return rng.integers(low, high, type_.shape, type_.dtype.numpy, endpoint=True)
