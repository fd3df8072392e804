# Ref: docs/hardware/rocket_vendor.md §2 (elementwise: tensor b, b per channel, b (1,1,H,W))
"""The second operand of a pass: a whole map, one pixel for all, or constant bytes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.types import Array, DType
from teflon_common.layout import LANES, image_shape, to_surfaces
from teflon_rocket.exact.encode import convolutions
from teflon_rocket.exact.layers import repeated
from teflon_rocket.exact.state import Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Constant, Feature, whole_pitch
from teflon_rocket.operations.passes import Pass, Size
from teflon_rocket.operations.stages import Pixels, Source

Shape = tuple[int, int, int, int]

_ROLE = "constants"


class Found(NamedTuple):
    """An operand, and the operations that have to make it before."""

    source: Source | Pixels | Constant
    before: tuple[Operation, ...] = ()


def goes_with(value: Value, shape: Shape) -> bool:
    """Whether a pass that makes a map of this shape can have a value as its second operand."""
    images, height, width, channels = image_shape(value.shape)
    if value.is_constant:
        return images in (1, shape[0])
    pixels = height, width
    return images in (1, shape[0]) and pixels in ((1, 1), shape[1:3]) and channels in (1, shape[3])


def operand(value: Value, shape: Shape, state: Lowering, where: str) -> Found:
    """Return the second operand of a pass that makes a map of this shape."""
    if value.data is not None:
        return Found(constant(value.data, shape, value.type.dtype))
    feature, before = state.features[value], ()
    if feature.shape[3] != shape[3]:
        wide = (*feature.shape[:3], shape[3])
        spread = Feature.between(f"{where}/{value.name}/repeated", wide, feature.flip)
        layer = repeated(where, feature, spread, value.type)
        return _from_map(spread, shape, tuple(convolutions(layer, state.chip, False)))
    return _from_map(feature, shape, before)


def _from_map(feature: Feature, shape: Shape, before: tuple[Operation, ...]) -> Found:
    """Return a map, or its one pixel for all: the DPU reads its channels without gaps then."""
    if feature.shape[1:3] == shape[1:3]:
        return Found(Source(feature), before)
    if feature.surfaces > 1 and feature.surface_pixels > 1:
        close = Feature(f"{feature.name}/close", feature.shape, flip=feature.flip)
        copy = Pass(close.name, Source(feature), Source(close), Size(*feature.shape))
        feature, before = close, (*before, copy)
    return Found(Source(feature, spread=True), before)


def constant(data: Array, shape: Shape, dtype: DType) -> Pixels | Constant:
    """Return constant bytes as the NPU reads them: for each channel where that says all."""
    flip = 0x80 if dtype is DType.UINT8 else 0
    given = data.reshape(image_shape(data.shape))
    if given.shape[:3] == (1, 1, 1):
        lanes = np.zeros(-(-shape[3] // LANES) * LANES, np.uint8)
        lanes[: shape[3]] = given.reshape(-1).view(np.uint8) ^ np.uint8(flip)
        return Constant(_ROLE, lanes.tobytes(), lanes.size)
    _, height, width, channels = shape
    whole = np.broadcast_to(given, (len(given), *shape[1:]))
    pitch = whole_pitch(height, width)
    size = pitch * LANES * -(-channels // LANES)
    out = np.zeros((len(given), size), np.uint8)
    for image, row in zip(whole, out, strict=True):
        to_surfaces(np.ascontiguousarray(image), row, flip, pitch=pitch)
    return Pixels(Constant(_ROLE, out.tobytes(), out.size), pitch, size if len(given) > 1 else 0)
