"""Random graphs for property tests, and equality of graphs."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from typing import Any

import numpy as np
from hypothesis import strategies as st

from teflon.ir import Graph, Op, Value, ops
from teflon.ir.types import DType, Padding, Quantization, TensorType

OP_CLASSES: list[type[Op]] = [getattr(ops, name) for name in ops.__all__]

_names = st.one_of(
    st.sampled_from(["x", "y", "a/b:0", "block 3", "%", '"', "\\", "", "#2", "x#2", "é\n\t"]),
    st.text(max_size=6),
)
_scales = st.floats(width=32, allow_nan=False)
_sizes = st.integers(0, 4)


@st.composite
def tensor_types(draw: st.DrawFn) -> TensorType:
    """Any element type, small shapes, any quantisation."""
    dtype = draw(st.sampled_from(list(DType)))
    shape = tuple(draw(st.lists(_sizes, max_size=4)))
    count = draw(st.integers(0, 3))
    scales = tuple(draw(_scales) for _ in range(count))
    zero_points = tuple(draw(st.integers(-(2**40), 2**40)) for _ in range(count))
    axis = draw(st.none() | st.integers(0, 3))
    return TensorType(dtype, shape, Quantization(scales, zero_points, axis) if count else None)


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
        int: st.integers(),
        float: st.floats(allow_nan=False) | st.floats(width=32, allow_nan=False),
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
    kind = draw(st.sampled_from(OP_CLASSES))
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
    """A graph with the right order of values and otherwise no sense at all."""
    inputs = draw(st.lists(values(), min_size=1, max_size=3))
    known = inputs + draw(st.lists(values(constant=True), max_size=3))
    found: list[Op] = []
    for _ in range(draw(st.integers(0, 4))):
        op = draw(operations(known))
        known.extend(op.results)
        found.append(op)
    outputs = draw(st.lists(st.sampled_from(known), max_size=3))
    names = tuple(draw(_names) for _ in outputs)
    return Graph(draw(_names), tuple(inputs), tuple(outputs), tuple(found), output_names=names)


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
