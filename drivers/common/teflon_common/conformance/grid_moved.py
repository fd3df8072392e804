"""More cases of operations that move elements: other axes, sizes, shares of channels, networks in
which a concatenation or a part of a map lies between convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from teflon.ir import ops
from teflon.ir.graph import Value
from teflon_common.conformance.graphs import convolved

_MAP = (1, 8, 8, 16)
_ODD = (1, 5, 7, 33)
_HALF = {"half_pixel_centers": True}
_ALIGNED = {"align_corners": True}


def _rescaled(site: Any, x: Value) -> Value:
    """Join maps of several scales where there is a kernel for it: uint8."""
    other = site.input((1, 8, 8, 24), None if site.dtype == "u8" else x)
    how = site.around(x.type.scale) if site.dtype == "u8" else {}
    joined: Value = site.b.concatenation([x, other], **how)
    return joined


def _conv(site: Any, x: Value, channels: int) -> Value:
    shape = (channels, 3, 3, x.shape[3])
    made: Value = convolved(site.b, site.random, x, shape, False, padding="same")
    how = {"scale": x.type.scale, "zero_point": x.type.zero_point}
    found: Value = site.b.quantize(made, site.dtype, **how)
    return found


def _branches(channels: int) -> Callable[[Any, Value], Value]:
    """Return a function that joins two convolutions of one map and goes on with a third."""

    def add(site: Any, x: Value) -> Value:
        return _conv(site, site.b.concatenation([_conv(site, x, channels), x]), 16)

    return add


def _halves(site: Any, x: Value) -> Value:
    first, second = site.b.split(x, 2)
    joined: Value = site.b.concatenation([second, _conv(site, first, first.shape[3])])
    return joined


Row = tuple[str, str, tuple[int, ...], Callable[[Any, Value], Any]]

MOVED: tuple[Row, ...] = (
    ("CONCATENATION", "in=5x7x33-columns", _ODD,
     lambda s, x: s.b.concatenation([x, s.input((1, 5, 2, 33), x)], 2)),
    ("CONCATENATION", "in=8x8x16-scales", _MAP, _rescaled),
    ("CONCATENATION", "in=8x8x16-branches=32", _MAP, _branches(32)),
    ("CONCATENATION", "in=8x8x24-branches=24", (1, 8, 8, 24), _branches(24)),
    ("CONCATENATION", "in=8x8x32-halves", (1, 8, 8, 32), _halves),
    ("SPLIT", "in=5x7x33-parts=3-channels", _ODD, lambda s, x: s.b.split(x, 3)),
    ("SPLIT", "in=5x8x33-parts=4-columns", (1, 5, 8, 33), lambda s, x: s.b.split(x, 4, 2)),
    ("UNPACK", "in=4x5x33-axis=0", (4, 5, 33), lambda s, x: s.b.unpack(x)),
    ("PAD", "in=8x8x16-channels=2x4", _MAP,
     lambda s, x: s.b.pad(x, (0, 0, 0, 2), (0, 0, 0, 4))),
    ("PAD", "in=5x7x33-all", _ODD, lambda s, x: s.b.pad(x, (0, 1, 0, 1), (0, 0, 3, 0))),
    ("SPACE_TO_DEPTH", "in=8x8x3-block=4", (1, 8, 8, 3),
     lambda s, x: s.b.op(ops.SpaceToDepth, input=x, block=4)),
    ("DEPTH_TO_SPACE", "in=5x7x20-block=2", (1, 5, 7, 20),
     lambda s, x: s.b.op(ops.DepthToSpace, input=x, block=2)),
    ("RESHAPE", "in=8x8x12-to=192x4", (1, 8, 8, 12), lambda s, x: s.b.reshape(x, (1, 192, 4))),
    ("RESHAPE", "in=192x4-to=8x8x12", (1, 192, 4), lambda s, x: s.b.reshape(x, (1, 8, 8, 12))),
    ("SLICE", "in=8x8x48-surfaces", (1, 8, 8, 48),
     lambda s, x: s.b.slice(x, (0, 2, 0, 16), (1, 5, 8, 32))),
    ("STRIDED_SLICE", "in=5x7x33-every=2x3x5", _ODD,
     lambda s, x: s.b.strided_slice(x, (0, 1, 0, 2), (1, 5, 7, 33), (1, 2, 3, 5))),
    ("TRANSPOSE", "in=6x1x33-perm=0x2x1x3", (1, 6, 1, 33),
     lambda s, x: s.b.transpose(x, (0, 2, 1, 3))),
    ("RESIZE_NEAREST_NEIGHBOR", "in=5x7x33-to=15x21-half", _ODD,
     lambda s, x: s.b.resize_nearest_neighbor(x, (15, 21), **_HALF)),
    ("RESIZE_NEAREST_NEIGHBOR", "in=8x8x16-to=12x4-aligned", _MAP,
     lambda s, x: s.b.resize_nearest_neighbor(x, (12, 4), **_ALIGNED)),
    ("RESIZE_BILINEAR", "in=5x7x33-to=10x14-half", _ODD,
     lambda s, x: s.b.resize_bilinear(x, (10, 14), **_HALF)),
    ("RESIZE_BILINEAR", "in=5x5x33-to=17x17-aligned", (1, 5, 5, 33),
     lambda s, x: s.b.resize_bilinear(x, (17, 17), **_ALIGNED)),
    ("RESIZE_BILINEAR", "in=1x1x100-to=7x9", (1, 1, 1, 100),
     lambda s, x: s.b.resize_bilinear(x, (7, 9))),
)  # fmt: skip
"""Operation, the case's name without the form, shape of the input, function that adds it."""
