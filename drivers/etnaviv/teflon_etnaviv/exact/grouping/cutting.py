"""Which output channels make a group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from teflon_etnaviv.exact.grouping.kernels import F64, Order


def segments(scales: F64, ratio: float) -> list[slice]:
    """Cut a row of scales into the fewest parts in which the largest is at most `ratio` times the
    smallest.
    """
    found, start = [], 0
    low = high = scales[0]
    for at, scale in enumerate(scales.tolist()):
        low, high = min(low, scale), max(high, scale)
        if high > low * ratio:
            found.append(slice(start, at))
            start, low, high = at, scale, scale
    return [*found, slice(start, len(scales))]


def by_scale(scales: F64) -> Order:
    """Return channels from the smallest scale to the largest."""
    return np.argsort(scales, kind="stable")


def for_both(scales: F64, parts: Sequence[slice], others: F64) -> Order:
    """Return an order that leaves few groups in two layers, one with `scales`, one with `others`.

    Channels stay in the parts of the order by scale, sorted by the second inside of each, up and
    down in turn, so that neighbouring parts meet at like scales.
    """
    order = by_scale(scales)
    found = []
    for number, part in enumerate(parts):
        channels = order[part]
        inner = channels[by_scale(others[channels])]
        found.append(inner[::-1] if number % 2 else inner)
    return np.concatenate(found)
