# Ref: docs/hardware/rocket.md §4.1
# Ref: docs/hardware/rocket_vendor.md §0.13 (surfaces of whole 64 bytes), §1 (surface size rule)
"""What operations read and write: feature maps, and constants that the compiler fills in."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Self

from teflon.ir.graph import Value
from teflon_common.layout import LANES

WHOLE_PIXELS = 4
"""Pixels of 64 bytes."""


def whole_pitch(height: int, width: int) -> int:
    """Return the pixels from one surface to the next in maps that the DPU and the PPU read: whole
    64 bytes, but for maps of one pixel.
    """
    pixels = height * width
    return pixels if pixels == 1 else -(-pixels // WHOLE_PIXELS) * WHOLE_PIXELS


@dataclass(frozen=True, eq=False)
class Feature:
    """A feature map in the NPU's memory: images of NC1HWC2 surfaces; compared by identity.

    `layout` and `fill` are for the host's conversion, see program.Port. pitch: pixels from one
    surface to the next, 0 if there are none between them. A part of another map, `whole`, begins
    `start` bytes after the beginning of each of its images; see `part`. row_bytes: see `row_pitch`.
    """

    name: str
    shape: tuple[int, int, int, int]  # images, height (outer), width (inner), channels
    value: Value | None = None
    layout: str = "surfaces"
    flip: int = 0
    fill: int = 0
    pitch: int = 0
    whole: Feature | None = None
    start: int = 0
    row_bytes: int = 0

    @classmethod
    def between(cls, name: str, shape: tuple[int, int, int, int], flip: int = 0) -> Self:
        """Return a map that lies between operations and that passes of the DPU may touch."""
        return cls(name, shape, flip=flip, pitch=whole_pitch(*shape[1:3]))

    def part(
        self, name: str, shape: tuple[int, int, int, int], start: int, value: Value | None = None
    ) -> Self:
        """Return a feature map that is a part of this one, or the same bytes in another shape.

        start: bytes from the beginning of an image to the part's first pixel. Its surfaces are as
        far apart as those of this map, its rows follow each other without gaps.
        """
        return dataclasses.replace(
            self, name=name, shape=shape, value=value, pitch=self.surface_pixels, whole=self.root,
            start=self.start + start,
        )  # fmt: skip

    @property
    def root(self) -> Feature:
        """The feature map that has a place of its own: this one, or the one it is a part of."""
        return self if self.whole is None else self.whole

    @property
    def surfaces(self) -> int:
        """Surfaces of one image."""
        return -(-self.shape[3] // LANES)

    @property
    def surface_pixels(self) -> int:
        """Pixels from one surface to the next."""
        return self.pitch or math.prod(self.shape[1:3])

    @property
    def surface_bytes(self) -> int:
        """Bytes from one surface to the next."""
        return self.surface_pixels * LANES

    @property
    def image_bytes(self) -> int:
        """Room of one image: twice its surfaces, since the DPU writes channels in 32s or 64s."""
        if self.whole is not None:
            return self.whole.image_bytes
        return self.surface_bytes * self.surfaces * 2

    @property
    def size_bytes(self) -> int:
        return self.shape[0] * self.image_bytes

    @property
    def row_pitch(self) -> int:
        """Bytes of a row in layout `rows`: whole 16 unless `row_bytes` says otherwise."""
        return self.row_bytes or -(-self.shape[2] // LANES) * LANES


@dataclass(frozen=True, eq=False)
class Constant:
    """Bytes that the device reads and never writes; compared by identity.

    role: what they are, as listings, dumps and buffers call it. room: how many bytes from the first
    one the device may read, which can be more than there are.
    """

    role: str
    data: bytes
    room: int
