# Ref: docs/hardware/rocket.md §4.1
"""What operations read and write: feature maps, and constants that the compiler fills in."""

from __future__ import annotations

from dataclasses import dataclass

from teflon.ir.graph import Value
from teflon_common.layout import LANES


@dataclass(frozen=True, eq=False)
class Feature:
    """A feature map in the NPU's memory: images of NC1HWC2 surfaces; compared by identity.

    `layout` and `fill` are for the host's conversion, see program.Port.
    """

    name: str
    shape: tuple[int, int, int, int]  # images, height (outer), width (inner), channels
    value: Value | None = None
    layout: str = "surfaces"
    flip: int = 0
    fill: int = 0

    @property
    def surfaces(self) -> int:
        """Surfaces of one image."""
        return -(-self.shape[3] // LANES)

    @property
    def surface_bytes(self) -> int:
        return self.shape[1] * self.shape[2] * LANES

    @property
    def image_bytes(self) -> int:
        """Room of one image: twice its surfaces, since the DPU writes channels in 32s or 64s."""
        return self.surface_bytes * self.surfaces * 2

    @property
    def size_bytes(self) -> int:
        return self.shape[0] * self.image_bytes

    @property
    def row_pitch(self) -> int:
        """Bytes of a row in layout `rows`."""
        return max(self.shape[2], LANES)


@dataclass(frozen=True, eq=False)
class Constant:
    """Bytes that the device reads and never writes; compared by identity.

    role: what they are, as listings, dumps and buffers call it. room: how many bytes from the first
    one the device may read, which can be more than there are.
    """

    role: str
    data: bytes
    room: int
