"""The text form of a graph: printed here, read back by `parse`, equal to the last bit.

    graph "tiny" {
      input %x: u8[1,8,8,3] {0.5:128}
      const %w: u8[4,1,1,3] {0.25:127} = splat 130
      %y: u8[1,8,8,4] {1.0:128} = conv2d(%x, %w, none) activation=relu6
      output %y as "result"
    }

Between the inputs and the constants stand the states, each with its old content and what it has at
first, and behind the outputs their new contents, in the same order:

      state %old: u8[1,4] {0.5:128} as "stream" = splat 128
      keep %new

A value is `%name`, or `%"any characters"`, with `#2` behind it where a name occurs again. A type is
element type, shape and `{scale:zero_point}`, along an axis `{axis 0: s0:z0, s1:z1}`; `dynamic`
behind the shape says that only computing the tensor tells it; `@7` is the tensor's number in its
file. Operands stand in the order of the operation's fields; attributes that have their default
value are left out. Constants are lists, `splat`, or `base64` of their bytes; `sha256` stands for
data that was not printed. `#` at the end of a line begins a comment.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from teflon.ir.graph import Graph, Op, Value, operand_names, result_name
from teflon.ir.text_parser import parse
from teflon.ir.types import Array, DType, Padding, Quantization, TensorType

__all__ = ["operation_text", "parse", "to_text", "type_text"]

INLINE = 16
"""Constants of up to this many elements are printed as numbers."""

_PLAIN = re.compile(r"[A-Za-z0-9_./-]+", re.ASCII)
_LISTED = (DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.FLOAT32)


def to_text(graph: Graph, *, data: bool = True) -> str:
    """Return the graph as text; without `data`, large constants show only their digest."""
    names = value_names(graph)
    lines = [f"graph {quoted(graph.name)} {{"]
    count = len(graph.inputs) - len(graph.states)
    for value, name in zip(graph.inputs[:count], graph.input_names, strict=False):
        lines.append(f"  input {_definition(value, names)}{_alias(value, name)}")
    for value, state in zip(graph.inputs[count:], graph.states, strict=True):
        content = _data_text(replace(value, data=state.initial), data)
        lines.append(f"  state {_definition(value, names)}{_alias(value, state.name)} = {content}")
    lines.extend(
        f"  const {_definition(value, names)} = {_data_text(value, data)}"
        for value in graph.constants
    )
    lines.extend(f"  {operation_text(op, names)}" for op in graph.ops)
    count = len(graph.outputs) - len(graph.states)
    for value, name in zip(graph.outputs[:count], graph.output_names, strict=False):
        lines.append(f"  output {names[value]}{_alias(value, name)}")
    lines.extend(f"  keep {names[value]}" for value in graph.outputs[count:])
    return "\n".join([*lines, "}", ""])


def value_names(graph: Graph) -> dict[Value, str]:
    """Return how each value is written: `%name`, `%"a b"`, `%name#2`."""
    seen: dict[str, int] = {}
    names: dict[Value, str] = {}
    for value in graph.values:
        count = seen[value.name] = seen.get(value.name, 0) + 1
        names[value] = _value_text(value) + (f"#{count}" if count > 1 else "")
    return names


def operation_text(op: Op, names: Mapping[Value, str] | None = None) -> str:
    """Return one operation as it stands in a graph's text."""
    known = names or {}

    def written(item: object) -> str:
        if isinstance(item, tuple):
            return f"[{', '.join(map(written, item))}]"
        return known.get(item, _value_text(item)) if isinstance(item, Value) else "none"

    operands = [written(getattr(op, name)) for name in operand_names(type(op))]
    wired = {*operand_names(type(op)), result_name(type(op))}
    attributes = []
    for field in dataclasses.fields(op):
        item = getattr(op, field.name)
        if field.name in wired:
            continue
        if item != field.default or type(item) is not type(field.default):
            attributes.append(f" {field.name}={literal(item)}")
    results = ", ".join(_definition(v, known) for v in op.results) or "()"
    attributes.sort(key=lambda text: text.startswith((" location=", " index=")))
    return f"{results} = {op.mnemonic}({', '.join(operands)}){''.join(attributes)}"


def type_text(type_: TensorType) -> str:
    """Return a type as `u8[1,8,8,3] {0.5:128}`."""
    shape = ",".join(map(str, type_.shape))
    dynamic = " dynamic" if type_.dynamic else ""
    return f"{type_.dtype.value}[{shape}]{dynamic}{_quantization_text(type_.quantization)}"


def literal(item: object) -> str:
    """Return an attribute's value in the text form."""
    if isinstance(item, enum.Enum):
        return str(item.value)
    if isinstance(item, Padding):
        return f"({item.top}, {item.bottom}, {item.left}, {item.right})"
    if isinstance(item, tuple):
        return f"({', '.join(map(literal, item))})"
    if isinstance(item, bytes):
        return f"base64 {quoted(base64.b64encode(item).decode())}"
    if isinstance(item, str):
        return quoted(item)
    if isinstance(item, float):
        return number(item)
    return "none" if item is None else str(item).lower()


def number(value: float) -> str:
    """Return a float exactly: shortest as float32, with `d` behind it where it needs a double."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) <= float(np.finfo(np.float32).max):
        text = _dotted(str(np.float32(value)))
        if _same(float(np.float32(float(text))), value):
            return text
    return _dotted(repr(value)) + "d"


def quoted(text: str) -> str:
    """Return a string in quotes, JSON's escapes; characters beyond ASCII stay readable."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)


def _dotted(text: str) -> str:
    return text if "." in text or "e" in text else text + ".0"


def _same(a: float, b: float) -> bool:
    return a == b and math.copysign(1, a) == math.copysign(1, b)


def _value_text(value: Value) -> str:
    return "%" + (value.name if _PLAIN.fullmatch(value.name) else quoted(value.name))


def _definition(value: Value, names: Mapping[Value, str]) -> str:
    index = "" if value.index == -1 else f" @{value.index}"
    return f"{names.get(value) or _value_text(value)}: {type_text(value.type)}{index}"


def _alias(value: Value, name: str) -> str:
    return "" if name == value.name else f" as {quoted(name)}"


def _quantization_text(quantization: Quantization | None) -> str:
    if quantization is None:
        return ""
    pairs = zip(quantization.scales, quantization.zero_points, strict=True)
    listed = ", ".join(f"{number(s)}:{z}" for s, z in pairs)
    axis = "" if quantization.axis is None else f"axis {quantization.axis}: "
    return f" {{{axis}{listed}}}"


def _data_text(value: Value, complete: bool) -> str:
    assert value.data is not None
    array, dtype = np.ascontiguousarray(value.data), value.type.dtype
    raw = array.tobytes()
    if dtype in _LISTED and array.size and not _has_nan(array):
        step = array.itemsize
        if array.size > 1 and raw == raw[:step] * array.size:
            return f"splat {literal(array.flat[0].item())}"
        if array.size <= INLINE:
            return f"[{_listed(array.flat)}]"
    if complete or len(raw) <= INLINE:
        return f"base64 {quoted(base64.b64encode(raw).decode())}"
    return f"sha256 {quoted(hashlib.sha256(raw).hexdigest())}"


def _listed(items: Iterable[np.generic]) -> str:
    return ", ".join(literal(item.item()) for item in items)


def _has_nan(array: Array) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())
