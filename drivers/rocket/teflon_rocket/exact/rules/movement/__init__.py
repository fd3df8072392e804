"""Operations that move elements and compute nothing: limits and lowering, a file for each family.

What needs no operation of the device at all, since it lies where it is wanted, is found before:
`exact/places.py`.
"""

from __future__ import annotations

from teflon.ir.graph import Op
from teflon.ir.ops import (
    BatchToSpace,
    DepthToSpace,
    MirrorPad,
    Pad,
    ResizeBilinear,
    ResizeNearestNeighbor,
    SpaceToBatch,
    SpaceToDepth,
    Transpose,
)
from teflon_common.layout import image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact.rules.movement import (
    batches,
    blocks,
    joining,
    padding,
    resizing,
    shaping,
    slicing,
)
from teflon_rocket.exact.state import Family

Sized = (
    Pad | MirrorPad | ResizeNearestNeighbor | ResizeBilinear | Transpose | SpaceToDepth
    | DepthToSpace | SpaceToBatch | BatchToSpace
)  # fmt: skip

RULES = Family(
    batches.RULES,
    blocks.RULES,
    joining.RULES,
    slicing.RULES,
    shaping.RULES,
    padding.RULES,
    resizing.RULES,
)


@RULES.requires_first
def four_axes(op: Op, chip: Chip) -> str | None:
    """What is moved must have at most 4 axes."""
    rank = max(value.type.rank for value in (*op.inputs_present, *op.results))
    return None if rank <= 4 else f"{rank} axes"


@RULES.requires
def all_computed(op: Op, chip: Chip) -> str | None:
    """What is moved must be computed, not constant."""
    first = [v for v in op.inputs_present if v.is_constant and v is not getattr(op, "value", None)]
    return f"{first[0].name!r} is constant" if first else None


@RULES.requires
def sizes(op: Sized, chip: Chip) -> str | None:
    """Maps that are padded, resized, transposed or cut in blocks must have at most {max_height}
    rows and {max_width} columns.
    """
    moved = [v for v in (*op.inputs_present, *op.results) if not v.is_constant]
    for _, height, width, _ in (image_shape(value.shape) for value in moved):
        if height > chip.max_height or width > chip.max_width:
            return f"{height} rows of {width}"
    return None
