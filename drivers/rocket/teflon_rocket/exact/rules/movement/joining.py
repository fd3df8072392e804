# Ref: docs/hardware/rocket_vendor.md §0.11, §2 (concatenation along C, along W, odd channels)
"""Joining maps to one: limits and lowering."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from teflon.ir.ops import Pack
from teflon_common.boxes import Joined, Joining, join_axis, joined, same_pixels
from teflon_common.layout import LANES, image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact.copies import Box, copies, is_at, seen
from teflon_rocket.exact.encode import convolutions
from teflon_rocket.exact.places import gathered_affine, gathered_surfaces
from teflon_rocket.exact.scales import Affine
from teflon_rocket.exact.selection import selections
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.passes import Size

RULES = Family()


@RULES.requires
def packs_whole_pixels(op: Pack, chip: Chip) -> str | None:
    """PACK must keep channels together: the new axis must stand before the last one."""
    last = all(same_pixels(image_shape(part.value.shape), part.shape) for part in joined(op))
    return None if last else f"axis is {op.axis} of {op.output.type.rank}"


@RULES.lowers
def join(op: Joining, state: Lowering) -> Iterator[Operation]:
    """Copies of what does not lie in its place; then the channels are chosen, where they do not
    begin with surfaces.
    """
    output, parts = state.features[op.output], list(joined(op))
    base = state.gathered.get(op, output)
    gathered = base is not output
    affine = gathered_affine(op) if gathered else Affine.of(op.output.type)
    surfaces = gathered_surfaces(parts)
    for part, surface in zip(parts, surfaces, strict=True):
        box = Box(base, surface=surface) if gathered else _box(op, part, base)
        yield from _copied(op, part, box, affine, state)
    if gathered:
        counts = zip(parts, surfaces, strict=True)
        chosen = np.concatenate([s * LANES + np.arange(part.shape[3]) for part, s in counts])
        layers = selections(op.where, base, output, chosen, affine, Affine.of(op.output.type))
        for layer in layers:
            yield from convolutions(layer, state.chip, output in state.added)


def _box(op: Joining, part: Joined, base: Feature) -> Box:
    """Return where a part begins in the result."""
    begin = [0, 0, 0, 0]
    begin[join_axis(op)] = part.begin
    image, top, left, channel = begin
    return Box(base, top=top, left=left, surface=channel // LANES, image=image)


def _copied(
    op: Joining, part: Joined, box: Box, affine: Affine, state: Lowering
) -> Iterator[Operation]:
    """Yield the passes that bring a part to its place; none where it lies there."""
    source, base = state.features[part.value], box.feature
    scales = Affine.of(part.value.type), affine
    if is_at(source, base, box.start):
        return
    if source.shape != part.shape:
        source = seen(source, part.shape, source.surface_pixels)
    name = f"{op.where}/{part.value.name}"
    yield from copies(name, Box(source), box, Size(*part.shape), scales)
