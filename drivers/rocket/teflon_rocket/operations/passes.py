# Ref: docs/hardware/rocket_vendor.md §0.10, §0.11, §2 (elementwise, copies, address rules,
# Ref: resize nearest)
"""A pass of the DPU alone: it reads a part of a feature map, computes, and writes a part.

Copies, changes of scale, arithmetic with one or two operands are such passes. The array of the
convolution rests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from teflon_common.layout import LANES
from teflon_rocket.operations import dpu
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.commands import Commands
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.operations.numbers import Converter
from teflon_rocket.operations.stages import (
    OFF,
    Other,
    Pixels,
    Source,
    Stage,
    emit_bn,
    emit_bs,
    emit_ew,
)
from teflon_rocket.registers import DPU, DPU_RDMA

_ALU, _MUL = 1, 4  # bits of BRDMA_DATA_USE and NRDMA_DATA_USE

_PAIRS = 1  # IN_PRECISION: two bytes at a time; so a pixel has 8 elements
MOST_REPEATS = 8
"""Times that a pixel can be written along an axis: KERNEL_WIDTH, SIZE_E_0 have 3 bits."""

UNCHANGED = Converter(0, 1, 0)
"""The output converter of bytes that are copied."""


class Size(NamedTuple):
    """What a pass makes: the size of the part that it reads, and of the one that it writes."""

    images: int
    height: int
    width: int
    channels: int

    @property
    def padded_channels(self) -> int:
        return -(-self.channels // LANES) * LANES


@dataclass(frozen=True, eq=False)
class Pass(Operation):
    """One pass: a task for each image, and for each surface where pixels are repeated.

    The value v of a byte goes through BS, BN and EW; the output is v * scale >> shift + offset of
    `output`, limited to int8. repeat: how many times each pixel is written along both axes; then
    the pass only copies.
    """

    units = (DPU, DPU_RDMA)
    macs = 0

    name: str
    source: Source
    target: Source
    size: Size
    bs: Stage = OFF
    bn: Stage = OFF
    other: Other | None = None
    output: Converter = UNCHANGED
    repeat: int = 1

    @property
    def reads(self) -> tuple[Feature, ...]:
        other = self.other and self.other.source
        if isinstance(other, Source):
            return (self.source.feature, other.feature)
        return (self.source.feature,)

    @property
    def writes(self) -> tuple[Feature, ...]:
        return (self.target.feature,)

    @property
    def constants(self) -> tuple[Constant, ...]:
        operands = (self.bs.add, self.bs.factor, self.bn.add, self.bn.factor)
        byte = self.other and self.other.constant
        return tuple(c for c in (*operands, byte) if isinstance(c, Constant))

    @property
    def tasks(self) -> int:
        return self.size.images * self._surfaces

    @property
    def _surfaces(self) -> int:
        """Tasks of one image."""
        return 1 if self.repeat == 1 else self.size.padded_channels // LANES

    @property
    def _channels(self) -> int:
        """Channels of one task."""
        return self.size.padded_channels // self._surfaces

    def _offset(self, source: Source, task: int) -> int:
        """Return the bytes from the beginning of a feature map to what a task reads or writes."""
        image, surface = divmod(task, self._surfaces)
        return source.offset(image) + surface * source.feature.surface_bytes

    def emit(self, task: int, commands: Commands) -> None:
        self.emit_pointers(commands)
        self._cube(commands, task)
        emit_bs(commands, self.bs)
        rows = self.repeat
        commands.write(DPU.BS_OW_CFG, OD_BYPASS=1, SIZE_E_0=rows, SIZE_E_1=rows, SIZE_E_2=rows)
        commands.clear(DPU.BS_OW_OP)
        self._write_size(commands)
        emit_bn(commands, self.bn)
        self.emit_ew(commands)
        self._output(commands)
        self._reader(commands, task)

    def emit_pointers(self, c: Commands) -> None:
        """Say how the register groups of the DPU and its reader take turns."""
        dpu.toggle_groups(c)

    def emit_ew(self, c: Commands) -> None:
        """Write the registers of EW."""
        emit_ew(c, self.other)

    def emit_table(self, c: Commands) -> None:
        """Write the registers of the lookup tables."""
        c.clear(*dpu.TABLES)

    def _cube(self, c: Commands, task: int) -> None:
        feature, size, repeat = self.target.feature, self.size, self.repeat
        row, width = feature.shape[2], size.width * repeat
        c.write(
            DPU.FEATURE_MODE_CFG,
            FLYING_MODE=1,
            OUTPUT_MODE=dpu.TO_MEMORY,
            BURST_LEN=dpu.BURST_16,
        )
        c.write(
            DPU.DATA_FORMAT,
            BS_MUL_SHIFT_VALUE_NEG=self.bs.below,
            BN_MUL_SHIFT_VALUE_NEG=self.bn.below,
            IN_PRECISION=int(repeat > 1) * _PAIRS,
        )
        c.clear(DPU.OFFSET_PEND)
        c.point(DPU.DST_BASE_ADDR, feature, self._offset(self.target, task))
        stride = feature.surface_pixels if repeat == 1 else row
        c.write(DPU.DST_SURF_STRIDE, DST_SURF_STRIDE=stride)
        c.write(DPU.DATA_CUBE_WIDTH, WIDTH=width)
        c.write(DPU.DATA_CUBE_HEIGHT, HEIGHT=size.height)
        notch = row * repeat - width
        c.write(DPU.DATA_CUBE_NOTCH_ADDR, NOTCH_ADDR_0=notch, NOTCH_ADDR_1=notch)
        c.write(DPU.DATA_CUBE_CHANNEL, ORIG_CHANNEL=self._channels, CHANNEL=self._channels)

    def _write_size(self, c: Commands) -> None:
        width = self.size.width * self.repeat
        c.write(DPU.WDMA_SIZE_0, CHANNEL_WDMA=self._channels)
        c.write(DPU.WDMA_SIZE_1, WIDTH_WDMA=width, HEIGHT_WDMA=self.size.height)

    def _output(self, c: Commands) -> None:
        c.write(DPU.OUT_CVT_OFFSET, OUT_CVT_OFFSET=self.output.offset)
        c.write(DPU.OUT_CVT_SCALE, OUT_CVT_SCALE=self.output.scale & 0xFFFF)
        c.write(DPU.OUT_CVT_SHIFT, OUT_CVT_SHIFT=self.output.shift)
        c.clear(*dpu.OPERAND_VALUES)
        c.write(DPU.SURFACE_ADD, SURF_ADD=self.target.feature.surface_pixels)
        c.clear(DPU.UNKNOWN_40C4)
        self.emit_table(c)

    def _reader(self, c: Commands, task: int) -> None:
        repeated, repeat = int(self.repeat > 1), self.repeat
        size, other = self.size, self.other
        line, surface = self._notches(self.source)
        ew_line, ew_surface = (0, 0) if other is None else self._operand_notches(other)
        c.write(DPU_RDMA.RDMA_DATA_CUBE_WIDTH, WIDTH=size.width)
        c.write(DPU_RDMA.RDMA_DATA_CUBE_HEIGHT, HEIGHT=size.height, EW_LINE_NOTCH_ADDR=ew_line)
        c.write(DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, CHANNEL=self._channels >> repeated)
        source = self._offset(self.source, task)
        c.point(DPU_RDMA.RDMA_SRC_BASE_ADDR, self.source.feature, source)
        _stream(c, DPU_RDMA.RDMA_BRDMA_CFG, "BRDMA", DPU_RDMA.RDMA_BS_BASE_ADDR, self.bs)
        _stream(c, DPU_RDMA.RDMA_NRDMA_CFG, "NRDMA", DPU_RDMA.RDMA_BN_BASE_ADDR, self.bn)
        _operand(c, other, task // self._surfaces)
        c.write(
            DPU_RDMA.RDMA_FEATURE_MODE_CFG,
            FLYING_MODE=1,
            BURST_LEN=dpu.BURST_16,
            IN_PRECISION=repeated * _PAIRS,
        )
        c.write(
            DPU_RDMA.RDMA_SRC_DMA_CFG, KERNEL_WIDTH=repeat, KERNEL_HEIGHT=repeat,
            KERNEL_STRIDE_WIDTH=repeat, KERNEL_STRIDE_HEIGHT=repeat, UNPOOLING_EN=repeated,
            LINE_NOTCH_ADDR=line,
        )  # fmt: skip
        c.write(DPU_RDMA.RDMA_SURF_NOTCH, SURF_NOTCH_ADDR=surface & _NOTCH_BITS)
        c.clear(DPU_RDMA.RDMA_PAD_CFG)
        c.write(DPU_RDMA.RDMA_WEIGHT, M_WEIGHT=1, B_WEIGHT=1, N_WEIGHT=1, E_WEIGHT=1)
        c.write(DPU_RDMA.RDMA_EW_SURF_NOTCH, EW_SURF_NOTCH=ew_surface & _NOTCH_BITS)

    def _notches(self, source: Source) -> tuple[int, int]:
        """Return the pixels from the end of a row to the next one, and from the end of what is read
        of a surface to the next surface.
        """
        feature, size = source.feature, self.size
        line = feature.shape[2] - size.width
        read = size.height * size.width + (size.height - 1) * line
        return line, feature.surface_pixels - read

    def _operand_notches(self, other: Other) -> tuple[int, int]:
        if isinstance(other.source, Pixels):
            return 0, other.source.pitch - self.size.height * self.size.width
        if isinstance(other.source, Source) and other.per_pixel:
            return self._notches(other.source)
        return 0, 0

    @property
    def moved(self) -> int:
        size = self.size
        cube = size.images * size.height * size.width * size.padded_channels
        other = self.other is not None and isinstance(self.other.source, Source)
        maps = self.repeat**2 + 1 + other
        return cube * maps + sum(len(c.data) for c in self.constants)

    @property
    def kind(self) -> str:
        """What it does, in a word."""
        return "one operand" if self.other is None else self.other.kind.name.lower()

    def text(self) -> str:
        size, source, target = self.size, self.source, self.target
        sizes = f"{size.height}x{size.width}x{size.channels}"
        first = f"rocket: {self.name} pass of the DPU {sizes}, {self.kind}"
        line = f"rows from {source.top}, columns from {source.left}, surfaces from {source.surface}"
        line += f" -> {target.top}, {target.left}, {target.surface}"
        if self.repeat > 1:
            line += f", each pixel {self.repeat} times along both axes"
        tasks = [f"  task {n}: {self.does(n)} {line}" for n in range(self.tasks)]
        return "\n".join([first, *tasks])

    def does(self, task: int) -> str:
        """What one task does, in words."""
        image, surface = divmod(task, self._surfaces)
        return f"image {image} surface +{surface}"


_NOTCH_BITS = (1 << 28) - 1
"""Of SURF_NOTCH_ADDR and EW_SURF_NOTCH: a notch may be negative."""


def _stream(c: Commands, config: Any, name: str, address: Any, stage: Stage) -> None:
    """Read an operand for each channel of BS or BN, or nothing."""
    streams = [
        (use, operand)
        for use, operand in ((_ALU, stage.add), (_MUL, stage.factor))
        if isinstance(operand, Constant)
    ]
    assert len(streams) <= 1, "one operand of a stage comes from memory"
    for use, operand in streams:
        c.write(config, **{f"{name}_DATA_USE": use})
        c.point(address, operand)
    if not streams:
        c.clear(config, address)


def _operand(c: Commands, other: Other | None, image: int) -> None:
    """Say where ERDMA begins: a byte for each pixel and channel, one for each channel, or none."""
    if other is None:
        c.write(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DISABLE=1)
        c.clear(DPU_RDMA.RDMA_EW_BASE_ADDR, DPU_RDMA.RDMA_EW_SURF_STRIDE)
        return
    c.write(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DATA_SIZE=1, ERDMA_DATA_MODE=int(other.per_pixel))
    source = other.source
    if isinstance(source, Source):
        c.point(DPU_RDMA.RDMA_EW_BASE_ADDR, source.feature, source.offset(image))
        stride = source.feature.surface_pixels if other.per_pixel else 1
    elif isinstance(source, Pixels):
        c.point(DPU_RDMA.RDMA_EW_BASE_ADDR, source.constant, source.offset(image))
        stride = source.pitch
    else:
        c.point(DPU_RDMA.RDMA_EW_BASE_ADDR, source)
        stride = 1
    c.write(DPU_RDMA.RDMA_EW_SURF_STRIDE, EW_SURF_STRIDE=stride)
