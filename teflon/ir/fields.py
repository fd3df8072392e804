"""The fields of operations: which type each has, and whether a value from outside fits it.

The text form, the JSON form and `Builder` all ask here, so that no operation is ever made with a
field of another type, and no attribute with a number that the formats cannot have.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import operator
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from teflon.errors import OptionError, shown
from teflon.ir.graph import Op, Value
from teflon.ir.types import DType, Padding, Quantization

LOWEST, HIGHEST = -(1 << 31), (1 << 31) - 1
"""What a whole number in an attribute may be: model formats have 32 bits for them."""

_HINTS: dict[type[Op], dict[str, Any]] = {}


class Word(str):
    """A bare word in an attribute of the text form: an enum's member, or none."""


def field_types(kind: type[Op]) -> Mapping[str, Any]:
    """Return the type of each field of an operation's class."""
    if kind not in _HINTS:
        known = typing.get_type_hints(kind)
        _HINTS[kind] = {f.name: known[f.name] for f in dataclasses.fields(kind)}
    return _HINTS[kind]


def field_problem(kind: type[Op], fields: Mapping[str, object]) -> str:
    """Return what is wrong with the fields that an operation is to be made of; "" if nothing is."""
    known = field_types(kind)
    for name, item in fields.items():
        if name not in known:
            return f"{kind.mnemonic} has no field {shown(name)}"
        if not fits(item, known[name]):
            return f"{name} is {shown(item)}, must be {kind_name(known[name])}"
    required = (f for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING)
    missing = [f.name for f in required if f.name not in fields]
    return f"lacks {', '.join(missing)}" if missing else ""


_NAMES: dict[Any, str] = {
    int: f"a whole number from {LOWEST} to {HIGHEST}",
    float: "a finite number",
    bool: "true or false",
    str: "a string in quotes",
    bytes: 'base64 "..."',
    Padding: "(top, bottom, left, right)",
    Value: "a value",
    types.NoneType: "none",
}


def kind_name(hint: Any) -> str:
    """Return in words what a field of this type may be."""
    arguments = typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"one of {', '.join(str(member.value) for member in hint)}"
    if typing.get_origin(hint) is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"{count}items in parentheses, each {kind_name(arguments[0])}"
    if arguments:
        return " or ".join(map(kind_name, arguments))
    return _NAMES.get(hint, str(hint))


def converted(item: Any, hint: Any) -> Any:
    """Return an attribute of the text form in its field's type, or as it is if it cannot be one."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        tried = [converted(item, a) for a in typing.get_args(hint)]
        fitting = (t for t, a in zip(tried, typing.get_args(hint), strict=True) if fits(t, a))
        return next(fitting, item)
    if hint is float and type(item) is int:
        return float(item)
    if hint is Padding and isinstance(item, tuple) and len(item) == 4:
        return Padding(*item)
    if isinstance(item, Word) and isinstance(hint, type) and issubclass(hint, enum.Enum):
        return next((member for member in hint if member.value == item), item)
    return None if item == "none" and hint is types.NoneType else item


def fits(item: Any, hint: Any) -> bool:
    """Whether a field of this type may have this value."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(item, a) for a in arguments)
    if origin is tuple:
        if not isinstance(item, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(fits(i, arguments[0]) for i in item)
        return len(item) == len(arguments) and all(map(fits, item, arguments))
    if hint is types.NoneType:
        return item is None
    if hint is Padding:
        return isinstance(item, Padding) and all(map(_is_whole, dataclasses.astuple(item)))
    if hint is int:
        return _is_whole(item)
    if hint is float:
        return isinstance(item, float | np.floating) and math.isfinite(item)
    if not isinstance(hint, type):
        return True  # a type that is only of drivers' own operations
    return isinstance(item, hint) and not isinstance(item, Word)


def _is_whole(item: object) -> bool:
    whole = isinstance(item, int | np.integer) and not isinstance(item, bool)
    return whole and LOWEST <= int(item) <= HIGHEST  # type: ignore[call-overload]


def quantised_by(name: object, scale: object, zero_point: object) -> Quantization:
    """Return a quantisation per tensor; its range is checked with the type. Raises OptionError."""
    try:
        return Quantization.per_tensor(scale, operator.index(zero_point))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise OptionError(
            f"{shown(name)}: scale is {shown(scale)} and zero point {shown(zero_point)}, must be"
            " a number and a whole number"
        ) from None


def element(dtype: object) -> DType:
    """Return an element type by its name. Raises OptionError."""
    try:
        return DType(dtype)
    except ValueError:
        known = ", ".join(d.value for d in DType)
        raise OptionError(f"element type is {shown(dtype)}, must be one of {known}") from None
