"""Any function of a byte as lookup tables: one where its entries can be right for all 256 values.

A table is read at a byte less the job's zero point. The 32 numbers next to that zero point, up and
down, have entries of their own; the others lie on lines between entries, up to eight on a line.
Which byte the zero point is, is free. So a function is one table where some zero point and some
entries give every result, rounded; the least distance to a half says how safely. Else it is a sum:
a table that is right outside of some windows of 63 values, and one more for each window, which
holds what is missing there, and zero elsewhere. At most five tables make any function.

Ref: docs/hardware/etnaviv.md sections 5.5, 8.3 (index, interpolation: inferred there)
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from teflon_etnaviv import _knots
from teflon_etnaviv.tp import lut

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_BYTES = np.arange(256)
_MARGINS = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
"""Distances to a half that are tried, the safest first. Rounded entries take 1/128 of them."""
_FAR = 512.0
_GRAIN = 64  # numbers below 512 in 64ths have 15 bits: they are numbers of a table as they are
_ALONE = 31  # numbers on each side of the zero point that have entries of their own, and 32
_MIDDLE = 128
"""The zero point of what is missing in a window."""
_ALL = (_MIDDLE + 32, _MIDDLE + 95, _MIDDLE - 94, _MIDDLE - 157)
"""Windows of all numbers that have no entry of their own where 128 is the zero point."""


@dataclass(frozen=True)
class Curve:
    """One table: the byte at which it is read as 0, what it adds to results, its 1024 entries."""

    in_zero: int
    out_zero: int
    entries: bytes
    results: bytes
    """The 256 bytes that it gives."""


@functools.lru_cache(maxsize=4096)
def curves(function: bytes, zero: int = _MIDDLE) -> tuple[Curve, ...]:
    """Return the tables that make a function of a byte.

    function: the 256 results. The results of the first table, and those of the others less 128,
    add up to them. zero: the zero point that is tried first.
    """
    wanted = np.frombuffer(function, np.uint8).astype(np.int64)
    order = [int(n) for n in np.argsort(np.abs(_BYTES - zero), kind="stable")]
    for margin in _MARGINS:
        low, high = _bounds(wanted, margin)
        for at in order:
            found = _knots.fit(low, high, wanted.astype(np.float64), at)
            if isinstance(found, bytes):
                return (_curve(at, 0, found),)
    sums = [*(_summed(wanted, at) for at in order), _summed(wanted, _MIDDLE, _ALL)]
    return min((found for found in sums if found), key=len)


def _bounds(wanted: I64, margin: float) -> tuple[F64, F64]:
    """Return the least and largest result of each byte that is rounded to what it should be."""
    reach = 0.5 - margin
    return (
        np.where(wanted == 0, -_FAR, wanted - reach),
        np.where(wanted == 255, _FAR, wanted + reach),
    )


def _summed(wanted: I64, zero: int, windows: tuple[int, ...] = ()) -> tuple[Curve, ...]:
    """Return a table with this zero point, and those of the windows where it is wrong.

    Nothing where more than four windows would be needed, or a result would lie near a half.
    """
    while True:
        low, high = _bounds(wanted, _MARGINS[-1])
        aim = wanted.astype(np.float64)
        inside = np.zeros(256, np.bool_)
        for first in windows:
            inside |= (first <= _BYTES) & (first + 2 * _ALONE >= _BYTES)
        low = np.where(inside, wanted - (_MIDDLE - 1.0), low)
        high = np.where(inside, wanted + float(_MIDDLE), high)
        found = _knots.fit(low, high, np.where(inside, _MIDDLE, aim), zero)
        if isinstance(found, bytes):
            break
        if len(windows) == len(_ALL):
            return ()
        windows = (*windows, zero + found - (2 * _ALONE if found < 0 else 0))
    base = _curve(zero, 0, found)
    if np.abs(np.abs(_interpolated(zero, found) % 1) - 0.5).min() < _MARGINS[-1] / 2:
        return ()
    missing = wanted - np.frombuffer(base.results, np.uint8)
    return (base, *_corrections(missing, windows))


def _corrections(missing: I64, windows: tuple[int, ...]) -> Iterator[Curve]:
    for first in windows:
        zero = min(max(first + _ALONE, 0), 255)
        inside = np.abs(_BYTES - zero) <= _ALONE
        part = np.where(inside, missing, 0).astype(np.float64)
        missing = np.where(inside, 0, missing)
        found = _knots.fit(part, part, part, zero)
        assert isinstance(found, bytes), "numbers with entries of their own always fit"
        yield _curve(zero, _MIDDLE, found)


def _rounded(entries: bytes) -> F64:
    return np.rint(np.frombuffer(entries) * _GRAIN) / _GRAIN


def _interpolated(zero: int, entries: bytes) -> F64:
    """Return what a table gives for each byte, before it is rounded."""
    code = lut.fp21(_BYTES - zero).astype(np.int64)
    values = np.append(_rounded(entries), 0.0)
    index, part = code >> 11, (code & 0x7FF) / 2048
    found: F64 = values[index] + (values[index + 1] - values[index]) * part
    return found


def _curve(in_zero: int, out_zero: int, entries: bytes) -> Curve:
    results = np.clip(np.rint(_interpolated(in_zero, entries)) + out_zero, 0, 255)
    numbers = lut.fp21(_rounded(entries)).astype("<u4")
    return Curve(in_zero, out_zero, numbers.tobytes(), results.astype(np.uint8).tobytes())
