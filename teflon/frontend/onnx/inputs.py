"""The shapes of a model's inputs: those of the file, or given by the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from teflon.errors import ModelError, OptionError, did_you_mean
from teflon.frontend.onnx.model import Model
from teflon.frontend.onnx.types import shape_problem


def input_shapes(
    model: Model, given: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, ...]]:  # fmt: skip
    """Return the shape of each input.

    A free dimension takes the number that it has in a given shape, by its name also in other
    inputs; a free first one, the batch, is 1 otherwise. Raises OptionError for an input that is not
    there, ModelError where a dimension remains free or is fixed to another size.
    """
    names = [v.name for v in model.inputs]
    for name in given:
        if name not in names:
            raise OptionError(
                f"{model.name}: there is no input {name!r}, must be one of"
                f" {', '.join(map(repr, names))}{did_you_mean(name, names)}"
            )
    bound: dict[str, int] = {}
    for value in model.inputs:
        if value.name in given:
            _bind(model, value, tuple(given[value.name]), bound)
    for value in model.inputs:
        dims = value.type.tensor_type.shape.dim
        if value.name not in given and dims and _name(dims[0]):
            bound.setdefault(_name(dims[0]), 1)
    return {v.name: _shape(model, v, given.get(v.name), bound) for v in model.inputs}


def _bind(model: Model, value: Any, shape: tuple[int, ...], bound: dict[str, int]) -> None:
    """Check a given shape, and take the numbers of its named dimensions."""
    place = f"{model.name}: input {value.name!r}"
    if problem := shape_problem(shape):
        raise ModelError(f"{place}: {problem}")
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return
    dims = kind.shape.dim
    if len(dims) != len(shape):
        raise ModelError(f"{place}: is given as {list(shape)}, must be like {_shown(dims)}")
    for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
        fixed = _fixed(dim)
        if fixed not in (None, size):
            raise ModelError(
                f"{place}: axis {axis} is given as {size}, must be {fixed} as in the file"
            )
        name = _name(dim)
        if name and bound.setdefault(name, size) != size:
            raise ModelError(
                f"{place}: {name} is given as {size}, must be {bound[name]} as in another place"
            )


def _shape(
    model: Model, value: Any, given: Sequence[int] | None, bound: Mapping[str, int]
) -> tuple[int, ...]:
    if given is not None:
        return tuple(given)
    kind = value.type.tensor_type
    place = f"{model.name}: input {value.name!r}"
    if not kind.HasField("shape"):
        raise ModelError(
            f"{place}: has no shape, must be given one (shapes={{{value.name!r}: (...)}}, or"
            f" --shape {value.name}=...)"
        )
    dims = kind.shape.dim
    found: list[int] = []
    free: list[str] = []
    for axis, dim in enumerate(dims):
        fixed = _fixed(dim)
        if fixed is not None:
            found.append(fixed)
        elif _name(dim) in bound:
            found.append(bound[_name(dim)])
        elif axis == 0:
            found.append(1)
        else:
            free.append(_name(dim) or f"axis {axis}")
    if free:
        raise ModelError(
            f"{place}: has the shape {_shown(dims)}, {' and '.join(free)} must be given"
            f" (shapes={{{value.name!r}: (...)}}, or --shape {value.name}={_example(dims)})"
        )
    if problem := shape_problem(found):
        raise ModelError(f"{place}: {problem}")
    return tuple(found)


def _fixed(dim: Any) -> int | None:
    """Return a dimension's size; None for a free one, which Paddle's converter writes as -1."""
    known = dim.HasField("dim_value") and dim.dim_value >= 0
    return int(dim.dim_value) if known else None


def _name(dim: Any) -> str:
    """Return the name of a free dimension; empty for `?` and the like, which name nothing."""
    name = str(dim.dim_param)
    return name if name.isidentifier() and name != "None" else ""


def _shown(dims: Any) -> str:
    shown = [d.dim_param or "?" if _fixed(d) is None else str(_fixed(d)) for d in dims]
    return f"[{', '.join(shown)}]"


def _example(dims: Any) -> str:
    """Return what a user may type, with letters for what is free."""
    sizes = [_fixed(d) for d in dims]
    shown = [("N" if axis else "1") if s is None else str(s) for axis, s in enumerate(sizes)]
    return ",".join(shown)
