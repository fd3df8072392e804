"""Write graphs as JSON beside arrays, read them back, and hash their content.

The caller says where constants lie: `encode` asks `place` for a reference (anything JSON can hold)
to each constant, `decode` asks `fetch` for the array of a reference.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from teflon.errors import shown
from teflon.ir import ops
from teflon.ir.fields import field_problem
from teflon.ir.graph import Graph, Op, State, Value
from teflon.ir.types import Activation, Array, DType, Padding, Quantization, TensorType

_ENUMS: Mapping[str, type[enum.Enum]] = {"Activation": Activation, "DType": DType}


def encode(graph: Graph, place: Callable[[Value], object]) -> dict[str, Any]:
    """Return a graph as JSON. Raises TypeError for an attribute of a kind that is not known."""
    numbers = {value: number for number, value in enumerate(graph.values)}
    return {
        "name": graph.name,
        "values": [
            [v.name, v.index, type_to_json(v.type), place(v) if v.is_constant else None]
            for v in graph.values
        ],
        "ops": [encode_op(op, numbers) for op in graph.ops],
        "inputs": [numbers[v] for v in graph.inputs],
        "outputs": [numbers[v] for v in graph.outputs],
        "input_names": graph.input_names,
        "output_names": graph.output_names,
        "states": [[state.name, place(value)] for state, value in _initial(graph)],
    }


def _initial(graph: Graph) -> list[tuple[State, Value]]:
    """Return each state with a constant of its first content."""
    old = graph.inputs[len(graph.inputs) - len(graph.states) :]
    return [
        (state, dataclasses.replace(value, data=state.initial))
        for state, value in zip(graph.states, old, strict=True)
    ]


def decode(plain: Mapping[str, Any], fetch: Callable[[Any, TensorType], Array]) -> Graph:
    """Return the graph that `encode` wrote; not verified.

    Raises KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError where it is
    not what `encode` writes.
    """
    values = [_value(row, fetch) for row in plain["values"]]
    inputs = tuple(values[_natural(number)] for number in plain["inputs"])
    states = plain["states"]
    if len(states) > len(inputs):
        raise ValueError(f"there are {len(states)} states and {len(inputs)} inputs")
    old = inputs[len(inputs) - len(states) :]
    return Graph(
        str(plain["name"]),
        inputs,
        tuple(values[_natural(number)] for number in plain["outputs"]),
        tuple(_op(row, values) for row in plain["ops"]),
        tuple(map(str, plain["input_names"])),
        tuple(map(str, plain["output_names"])),
        states=tuple(
            State(str(name), fetch(reference, value.type))
            for (name, reference), value in zip(states, old, strict=True)
        ),
    )


def content(graph: Graph) -> bytes:
    """Return 32 bytes that stand for operations, attributes, types, wiring and constants.

    Names, places in a file and the addresses of constants do not change them.
    """
    numbers = {value: number for number, value in enumerate(graph.values)}
    plain = {
        "values": [[type_to_json(v.type), v.is_constant] for v in graph.values],
        "ops": [encode_op(op, numbers, names=False) for op in graph.ops],
        "inputs": [numbers[v] for v in graph.inputs],
        "outputs": [numbers[v] for v in graph.outputs],
        **({"states": len(graph.states)} if graph.states else {}),
    }
    digest = hashlib.sha256(json.dumps(plain, separators=(",", ":")).encode())
    for value in (*graph.constants, *(value for _, value in _initial(graph))):
        data = np.ascontiguousarray(value.data).reshape(-1)
        digest.update(data.view(np.uint8).data)
    return digest.digest()


def type_to_json(kind: TensorType) -> list[Any]:
    """Return a tensor type as JSON; scales survive exactly."""
    q = kind.quantization
    plain = [kind.dtype.value, kind.shape, q and [q.scales, q.zero_points, q.axis]]
    return [*plain, True] if kind.dynamic else plain


def type_from_json(plain: Sequence[Any]) -> TensorType:
    """Return the type that `type_to_json` wrote. Raises what `decode` raises."""
    dtype, shape, q, *dynamic = plain
    if dynamic not in ([], [True]):
        raise ValueError(f"type ends with {shown(dynamic)}, must with nothing or true")
    quantization = None
    if q is not None:
        scales, zero_points, axis = q
        quantization = Quantization(tuple(map(float, scales)), tuple(zero_points), axis)
    found = TensorType(DType(dtype), tuple(shape), quantization, bool(dynamic))
    if found.problem:
        raise ValueError(found.problem)
    return found


def encode_op(op: Op, numbers: Mapping[Value, int], *, names: bool = True) -> list[Any]:
    """Return [mnemonic, fields that differ from their default]; values as their numbers."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(op):
        item = getattr(op, field.name)
        if item == field.default or (not names and field.name in ("location", "index")):
            continue
        fields[field.name] = _plain(item, numbers)
    return [op.mnemonic, fields]


def _plain(item: object, numbers: Mapping[Value, int]) -> object:
    if item is None or isinstance(item, bool | int | float | str):
        return item
    if isinstance(item, Value):
        return {"value": numbers[item]}
    if isinstance(item, tuple):
        return [_plain(i, numbers) for i in item]
    if isinstance(item, Padding):
        return {"padding": [item.top, item.bottom, item.left, item.right]}
    if isinstance(item, enum.Enum) and type(item).__name__ in _ENUMS:
        return {type(item).__name__: item.value}
    if isinstance(item, bytes):
        return {"bytes": item.hex()}
    raise TypeError(f"an attribute is a {type(item).__name__}, which has no form in a file")


def _item(plain: Any, values: Sequence[Value]) -> object:
    if isinstance(plain, list):
        return tuple(_item(p, values) for p in plain)
    if not isinstance(plain, dict):
        return plain
    ((kind, content_),) = plain.items()
    if kind == "value":
        return values[_natural(content_)]
    if kind == "padding":
        return Padding(*map(_natural, content_))
    if kind == "bytes":
        return bytes.fromhex(content_)
    return _ENUMS[kind](content_)


def _natural(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"is {shown(number)}, must be a whole number of 0 or more")
    return number


def _value(row: Sequence[Any], fetch: Callable[[Any, TensorType], Array]) -> Value:
    name, index, kind, reference = row
    type_ = type_from_json(kind)
    return Value(
        str(name), type_, None if reference is None else fetch(reference, type_), int(index)
    )


def _op(row: Sequence[Any], values: Sequence[Value]) -> Op:
    mnemonic, fields = row
    kind: type[Any] | None = ops.class_of(mnemonic)
    if kind is None:
        raise ValueError(f"there is no operation {shown(mnemonic)}")
    given = {name: _item(item, values) for name, item in fields.items()}
    if problem := field_problem(kind, given):
        raise ValueError(f"{mnemonic}: {problem}")
    made: Op = kind(**given)
    return made
