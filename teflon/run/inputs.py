"""A model's inputs and outputs as users see them, and what they may give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from teflon.errors import OptionError, did_you_mean
from teflon.ir.graph import Value
from teflon.ir.types import Array, Quantization

Given = npt.ArrayLike | Mapping[str, npt.ArrayLike]
"""An input, in the order of the model's inputs; or one mapping of all of them by name."""


@dataclass(frozen=True)
class TensorInfo:
    """An input or output as users see it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    quantization: Quantization | None

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def described(values: Sequence[Value], names: Sequence[str]) -> tuple[TensorInfo, ...]:
    """Describe tensors; a name that was used before gets a number."""
    seen: Counter[str] = Counter()
    found = []
    for value, name in zip(values, names, strict=True):
        seen[name] += 1
        unique = f"{name}_{seen[name]}" if seen[name] > 1 else name
        type_ = value.type
        found.append(TensorInfo(unique, type_.dtype.numpy, type_.shape, type_.quantization))
    return tuple(found)


def checked(
    model: str,
    inputs: Sequence[TensorInfo],
    arrays: Sequence[Given],
    named: Mapping[str, npt.ArrayLike],
) -> list[Array]:
    """Return what was given to a model as C-contiguous arrays, in the order of its inputs.

    Raises OptionError where an input is missing, given twice, unknown, or of another type or shape.
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
                f"{model}: there is no input {name!r}, must be one of {', '.join(names)}"
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
    array = np.asarray(given)
    if array.dtype != info.dtype or array.shape != info.shape:
        raise OptionError(
            f"input {info.name!r}: is {array.dtype}{list(array.shape)}, must be {info}"
        )
    return np.ascontiguousarray(array)
