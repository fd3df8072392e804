# Ref: docs/hardware/rocket_vendor.md §0.11, §2 (split, slices, odd channels)
"""Taking parts of a map: limits and lowering."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from teflon_common.boxes import CHANNELS, Cut, Cutting, cuts, same_pixels
from teflon_common.layout import LANES, image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact.copies import Box, copies, is_at, seen
from teflon_rocket.exact.encode import convolutions
from teflon_rocket.exact.places import start_of
from teflon_rocket.exact.scales import Affine
from teflon_rocket.exact.selection import selections
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.passes import Size

RULES = Family()


@RULES.requires
def forward(op: Cutting, chip: Chip) -> str | None:
    """Rows, columns and images must be taken in order: steps along them must be positive, and 1
    along images.
    """
    for cut in cuts(op):
        for axis, (count, step) in enumerate(zip(cut.size, cut.steps, strict=True)):
            if count > 1 and axis < CHANNELS and (step < 1 or (axis == 0 and step > 1)):
                return f"steps are {list(cut.steps)}"
    return None


@RULES.requires
def keeps_pixels(op: Cutting, chip: Chip) -> str | None:
    """The axis of the channels must stay: each pixel of the result must be one of the input."""
    for cut in cuts(op):
        found = image_shape(cut.value.shape)
        if not same_pixels(cut.size, found):
            return f"{list(cut.size)} becomes {list(found)}"
    return None


@RULES.lowers
def cut(op: Cutting, state: Lowering) -> Iterator[Operation]:
    """Nothing where a part lies in its place, else copies; a convolution where channels are chosen
    that are no whole surfaces.
    """
    source = state.features[op.input]
    for part in cuts(op):
        output = state.features[part.value]
        start = start_of(part, source)
        if start is not None and is_at(output, source, start):
            continue
        target = (
            output if output.shape == part.size else seen(output, part.size, output.surface_pixels)
        )
        yield from _taken(op, part, source, target, state)


def _taken(
    op: Cutting, part: Cut, source: Feature, target: Feature, state: Lowering
) -> Iterator[Operation]:
    image, top, left, channel = part.begin
    images, height, width, count = part.size
    chosen = channel + part.steps[3] * np.arange(count)
    box = Box(source, top, left, 0, image, part.steps[1], part.steps[2])
    if (channel % LANES == 0 and part.steps[3] == 1) or count == 0:
        box = box._replace(surface=channel // LANES)
        yield from copies(op.where, box, Box(target), Size(*part.size))
        return
    first = chosen.min() // LANES
    surfaces = int(chosen.max() // LANES - first + 1)
    wanted = (images, height, width, surfaces * LANES)
    if part.size[:3] == source.shape[:3]:
        taken = seen(source, wanted, source.surface_pixels, int(first) * source.surface_bytes)
    else:
        taken = Feature.between(f"{op.where}/pixels", wanted, source.flip)
        yield from copies(op.where, box._replace(surface=int(first)), Box(taken), Size(*wanted))
    affine = Affine.of(op.input.type)
    layers = selections(op.where, taken, target, chosen - first * LANES, affine, affine)
    for layer in layers:
        yield from convolutions(layer, state.chip, target in state.added)
