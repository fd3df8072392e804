"""Sliding windows: sizes, strides and padding of convolutions and poolings."""

from __future__ import annotations

from dataclasses import dataclass

from teflon.frontend.onnx.site import Site
from teflon.ir.types import Padding

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A window over height and width; what has one axis only is an image of height one."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Padding


def window(site: Site, size: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    """Return the window of a convolution or pooling over an image of this size."""
    count = len(size)
    strides = _sizes(site, "strides", count, 1)
    dilations = _sizes(site, "dilations", count, 1)
    before, after = _pads(site, size, kernel, strides, dilations)
    lead = (1,) * (2 - count)
    none = (0,) * (2 - count)
    top, left = (*none, *before)
    bottom, right = (*none, *after)
    return Window(
        pair(lead + kernel), pair(lead + strides), pair(lead + dilations),
        Padding(top, bottom, left, right),
    )  # fmt: skip


def kernel_shape(site: Site, count: int) -> tuple[int, ...]:
    """Return the attribute kernel_shape, which must be there."""
    found = site.integers("kernel_shape")
    if found is None or len(found) != count or min(found) < 1:
        site.unread(f"kernel_shape is {found}, must be {count} numbers of 1 or more")
    return found


def pair(numbers: tuple[int, ...]) -> Pair:
    """Return two numbers as a pair."""
    y, x = numbers
    return y, x


def _sizes(site: Site, name: str, count: int, default: int) -> tuple[int, ...]:
    found = site.integers(name)
    if found is None:
        return (default,) * count
    site.require(
        len(found) == count and min(found) >= 1,
        f"{name} is {list(found)}, must be {count} numbers of 1 or more",
    )
    return found


def _pads(
    site: Site, size: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:  # fmt: skip
    """Return how far the window reaches beyond the image, before and behind each axis."""
    auto = site.text("auto_pad", "NOTSET") or "NOTSET"
    count = len(size)
    if auto == "VALID":
        return (0,) * count, (0,) * count
    if auto == "NOTSET":
        return explicit(site, count)
    site.require(auto in ("SAME_UPPER", "SAME_LOWER"), f"auto_pad is {auto!r}, which is not known")
    before, after = [], []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        less = total // 2
        before.append(less if auto == "SAME_UPPER" else total - less)
        after.append(total - less if auto == "SAME_UPPER" else less)
    return tuple(before), tuple(after)


def explicit(site: Site, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the attribute pads, zeros if it is absent."""
    pads = site.integers("pads") or (0,) * (2 * count)
    site.require(len(pads) == 2 * count, f"pads are {list(pads)}, must be {2 * count} numbers")
    site.require(min(pads) >= 0, f"pads are {list(pads)}, must not be negative")
    return pads[:count], pads[count:]
