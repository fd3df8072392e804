# Ref: docs/hardware/rocket_vendor.md §0 findings 8, 13, §2 (registers and their order, line buffer)
"""Pooling by the PPU and its reader."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from teflon_common.layout import LANES
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.commands import Commands
from teflon_rocket.operations.data import Feature
from teflon_rocket.registers import PPU, PPU_RDMA

_AVERAGE, _MAX = 0, 1  # POOLING_METHOD
_BURST_4 = 3
_EIGHT_BIT = 1  # IN_PRECISION
_ONE = 1 << 16
"""Reciprocals count in parts of it."""
_SIGN = 0b111
"""The bits of a negative padding value above its low 32."""

Pair = tuple[int, int]


class Span(NamedTuple):
    """What a task reads and writes along one axis, and how much it pads."""

    first: int
    size: int
    before: int
    after: int
    out_first: int
    out_size: int


@dataclass(frozen=True, eq=False)
class Pooling(Operation):
    """The largest or the mean of each window, in parts side by side that fit the line buffer.

    Pairs are (rows, columns). before: padding above and left; as much follows below and right as
    the output needs. fill: the byte that padding counts as in a mean; the largest leaves it out.
    columns: the widest part of the output. Surfaces of both maps are whole 64 bytes.
    """

    units = (PPU, PPU_RDMA)
    macs = 0

    name: str
    source: Feature
    target: Feature
    kernel: Pair
    stride: Pair
    before: Pair
    columns: int
    average: bool = False
    fill: int = 0

    @property
    def reads(self) -> tuple[Feature, ...]:
        return (self.source,)

    @property
    def writes(self) -> tuple[Feature, ...]:
        return (self.target,)

    @cached_property
    def rows(self) -> Span:
        """The rows of every task."""
        return self._span(0, 0, self.target.shape[1])

    @cached_property
    def parts(self) -> tuple[Span, ...]:
        """The columns of each part: as good as equal."""
        whole = self.target.shape[2]
        count = -(-whole // self.columns)
        edges = [number * whole // count for number in range(count + 1)]
        return tuple(self._span(1, start, end - start) for start, end in itertools.pairwise(edges))

    def _span(self, axis: int, start: int, count: int) -> Span:
        size, kernel, stride = self.source.shape[1 + axis], self.kernel[axis], self.stride[axis]
        first = start * stride - self.before[axis]
        end = first + (count - 1) * stride + kernel
        inside = max(first, 0), min(end, size)
        return Span(
            inside[0], inside[1] - inside[0], inside[0] - first, end - inside[1], start, count
        )

    @property
    def tasks(self) -> int:
        return self.source.shape[0] * len(self.parts)

    def _part(self, task: int) -> tuple[int, Span]:
        """Return the image and the columns of a task."""
        image, number = divmod(task, len(self.parts))
        return image, self.parts[number]

    @property
    def _channels(self) -> int:
        return self.source.surfaces * LANES

    def emit(self, task: int, commands: Commands) -> None:
        image, part = self._part(task)
        for pointer in (PPU.S_POINTER, PPU_RDMA.RDMA_S_POINTER):
            commands.write(pointer, POINTER_PP_EN=1, EXECUTER_PP_EN=1, POINTER_PP_MODE=1)
        self._emit_sizes(commands, part)
        self._emit_window(commands, part)
        self._emit_output(commands, image, part)
        self._emit_reader(commands, image, part)

    def _emit_sizes(self, c: Commands, part: Span) -> None:
        c.write(PPU.DATA_CUBE_IN_WIDTH, CUBE_IN_WIDTH=part.size)
        c.write(PPU.DATA_CUBE_IN_HEIGHT, CUBE_IN_HEIGHT=self.rows.size)
        c.write(PPU.DATA_CUBE_IN_CHANNEL, CUBE_IN_CHANNEL=self._channels)
        c.write(PPU.DATA_CUBE_OUT_WIDTH, CUBE_OUT_WIDTH=part.out_size)
        c.write(PPU.DATA_CUBE_OUT_HEIGHT, CUBE_OUT_HEIGHT=self.rows.out_size)
        c.write(PPU.DATA_CUBE_OUT_CHANNEL, CUBE_OUT_CHANNEL=self._channels)

    def _emit_window(self, c: Commands, part: Span) -> None:
        high, wide = self.kernel
        down, right = self.stride
        c.write(
            PPU.OPERATION_MODE_CFG,
            POOLING_METHOD=_AVERAGE if self.average else _MAX,
            FLYING_MODE=1,
            NOTCH_ADDR=self.target.shape[2] - part.out_size,
        )
        c.write(
            PPU.POOLING_KERNEL_CFG,
            KERNEL_WIDTH=wide,
            KERNEL_HEIGHT=high,
            KERNEL_STRIDE_WIDTH=right,
            KERNEL_STRIDE_HEIGHT=down,
        )
        c.write(PPU.RECIP_KERNEL_WIDTH, RECIP_KERNEL_WIDTH=_ONE // wide if self.average else 0)
        c.write(PPU.RECIP_KERNEL_HEIGHT, RECIP_KERNEL_HEIGHT=_ONE // high if self.average else 0)
        c.write(
            PPU.POOLING_PADDING_CFG,
            PAD_LEFT=part.before,
            PAD_TOP=self.rows.before,
            PAD_RIGHT=part.after,
            PAD_BOTTOM=self.rows.after,
        )
        fill = self.fill if self.average else 0
        c.write(PPU.PADDING_VALUE_1_CFG, PAD_VALUE_0=fill & 0xFFFFFFFF)
        c.write(PPU.PADDING_VALUE_2_CFG, PAD_VALUE_1=_SIGN if fill < 0 else 0)

    def _emit_output(self, c: Commands, image: int, part: Span) -> None:
        target = self.target
        c.point(PPU.DST_BASE_ADDR, target, image * target.image_bytes + part.out_first * LANES)
        c.write(PPU.DST_SURF_STRIDE, DST_SURF_STRIDE=target.surface_pixels)
        c.write(PPU.DATA_FORMAT, INDEX_ADD=target.surface_pixels)
        c.write(PPU.MISC_CTRL, BURST_LEN=_BURST_4)

    def _emit_reader(self, c: Commands, image: int, part: Span) -> None:
        source = self.source
        width = source.shape[2]
        first = self.rows.first * width + part.first
        c.write(PPU_RDMA.RDMA_CUBE_IN_WIDTH, CUBE_IN_WIDTH=part.size)
        c.write(PPU_RDMA.RDMA_CUBE_IN_HEIGHT, CUBE_IN_HEIGHT=self.rows.size)
        c.write(PPU_RDMA.RDMA_CUBE_IN_CHANNEL, CUBE_IN_CHANNEL=self._channels)
        c.point(PPU_RDMA.RDMA_SRC_BASE_ADDR, source, image * source.image_bytes + first * LANES)
        c.write(PPU_RDMA.RDMA_SRC_LINE_STRIDE, SRC_LINE_STRIDE=width)
        c.write(PPU_RDMA.RDMA_SRC_SURF_STRIDE, SRC_SURF_STRIDE=source.surface_pixels)
        c.write(PPU_RDMA.RDMA_DATA_FORMAT, IN_PRECISION=_EIGHT_BIT)

    @property
    def moved(self) -> int:
        rows, images = self.rows, self.source.shape[0]
        pixels = sum(p.size * rows.size + p.out_size * rows.out_size for p in self.parts)
        return images * pixels * self._channels

    def text(self) -> str:
        kind = "mean" if self.average else "largest"
        sizes = ("x".join(map(str, f.shape[1:])) for f in (self.source, self.target))
        window = f"{self.kernel[0]}x{self.kernel[1]} stride {self.stride[0]}x{self.stride[1]}"
        lines = [f"rocket: {self.name} {kind} of {window} {' -> '.join(sizes)}"]
        for task in range(self.tasks):
            image, part = self._part(task)
            columns = f"columns {part.first}+{part.size} -> {part.out_first}+{part.out_size}"
            padding = f"padding {self.rows.before} above {part.before} left"
            lines.append(f"  task {task}: image {image}, {columns}, {padding}")
        return "\n".join(lines)
