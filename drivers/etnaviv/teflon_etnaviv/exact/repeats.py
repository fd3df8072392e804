"""Operands of fewer elements: a tensor's bytes, several times one behind the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from teflon.ir.graph import Value
from teflon_etnaviv.tensors import Layout

Sizes = tuple[int, int, int, int]


def times(small: Value, shape: Sequence[int]) -> tuple[Layout, int] | None:
    """Return the layout in which a tensor, broadcast to a shape, is its own bytes some times, and
    how many times; None where it is in neither.

    In rows these are tensors without the first axes, in planes those of one channel.
    """
    mine, wanted = _four(small.shape), _four(shape)
    if mine == wanted:
        return Layout.ROWS, 1
    for axis in range(1, 5):
        if all(size == 1 for size in mine[:axis]) and mine[axis:] == wanted[axis:]:
            return Layout.ROWS, math.prod(wanted[:axis])
    if mine == (*wanted[:3], 1):
        return Layout.PLANES, wanted[3]
    return None


def _four(shape: Sequence[int]) -> Sizes:
    one, two, three, four = (1, 1, 1, 1, *shape)[-4:]
    return one, two, three, four


def layout(a: Value, b: Value, shape: Sequence[int]) -> Layout | None:
    """Return the layout that two operands need so that both are their own bytes some times; None
    where any will do.
    """
    found = {kind for kind, count in map(_known, (a, b), (shape, shape)) if count > 1}
    return found.pop() if len(found) == 1 else None


def _known(value: Value, shape: Sequence[int]) -> tuple[Layout, int]:
    found = times(value, shape)
    assert found is not None, "a rule asks for it"
    return found


def why_not(a: Value, b: Value, shape: Sequence[int], most: int) -> str | None:
    """Say why two operands cannot be brought to a result's shape. most: bytes, and times, of what
    is repeated.
    """
    found = [times(value, shape) for value in (a, b)]
    kinds = {kind for each in found if each is not None for kind, n in [each] if n > 1}
    if a.is_constant or b.is_constant or None in found or len(kinds) > 1:
        return f"shapes are {list(a.shape)} and {list(b.shape)}"
    for value, each in zip((a, b), found, strict=True):
        if each is not None and each[1] > 1 and max(math.prod(value.shape), each[1]) > most:
            return f"{list(value.shape)} {each[1]} times"
    return None
