"""A model's inputs and outputs as users see them, and the arrays that users pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from teflon.errors import OptionError, did_you_mean, shown
from teflon.ir.graph import Value
from teflon.ir.types import Array, DType, Quantization, TensorType

Given = npt.ArrayLike | Mapping[str, npt.ArrayLike]
"""An array for the model's next input, or one mapping with the arrays of all inputs by name."""


@dataclass(frozen=True)
class TensorInfo:
    """The name, type and shape of an input or output; the type `object` stands for texts."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    quantization: Quantization | None

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def user_dtype(kind: TensorType) -> np.dtype[Any]:
    """Return the numpy type of an input's or output's array: `object` for texts."""
    return np.dtype(object) if kind.dtype is DType.OTHER else kind.dtype.numpy


def tensor_infos(values: Sequence[Value], names: Sequence[str]) -> tuple[TensorInfo, ...]:
    """Describe tensors for users; a name that occurs again gets a number."""
    seen: Counter[str] = Counter()
    found = []
    for value, name in zip(values, names, strict=True):
        seen[name] += 1
        unique = f"{name}_{seen[name]}" if seen[name] > 1 else name
        type_ = value.type
        found.append(TensorInfo(unique, user_dtype(type_), type_.shape, type_.quantization))
    return tuple(found)


def arrange_inputs(
    model: str,
    inputs: Sequence[TensorInfo],
    arrays: Sequence[Given],
    named: Mapping[str, npt.ArrayLike],
) -> list[Array]:
    """Return the arrays that a user passed to a model, C-contiguous and in the order of its inputs.

    Raises OptionError if an input is missing, given twice, unknown, or of another type or shape.
    """
    if len(arrays) == 1 and isinstance(only := arrays[0], Mapping):
        arrays, named = (), {**only, **named}
    names = [i.name for i in inputs]
    if len(arrays) > len(names):
        raise OptionError(
            f"{model}: {len(arrays)} arrays given, must be {len(names)} ({', '.join(names)})"
        )
    given: dict[str, Any] = dict(zip(names, arrays, strict=False))
    for name, array in named.items():
        if name not in names:
            raise OptionError(
                f"{model}: there is no input {shown(name)}, must be one of {', '.join(names)}"
                f"{did_you_mean(name, names)}"
            )
        if name in given:
            raise OptionError(f"input {name!r}: is given twice, must be given once")
        given[name] = array
    for info in inputs:
        if info.name not in given:
            raise OptionError(f"{model}: input {info.name!r} is missing, must be given ({info})")
    return [_array(info, given[info.name]) for info in inputs]


def _array(info: TensorInfo, given: npt.ArrayLike) -> Array:
    try:
        array = np.asarray(given)
    except Exception as error:  # rows of different lengths; a class of the caller's
        raise OptionError(
            f"input {info.name!r}: is {shown(given)}, must be an array: {info}"
        ) from error
    if info.dtype.kind == "O" and array.dtype.kind in "SU":
        array = array.astype(object)
    if array.dtype != info.dtype or array.shape != info.shape:
        raise OptionError(
            f"input {info.name!r}: is {array.dtype}{list(array.shape)}, must be {info}"
        )
    return np.asarray(array, order="C")  # keeps a scalar a scalar
