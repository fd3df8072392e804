# Ref: docs/hardware/rocket_vendor.md §0.1 (operands for each channel)
# Ref: docs/hardware/rocket.md §5.3 (fused additions), §6, §7.1
"""A convolution on the device, and the addition that the same tasks can do after it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from teflon_common.layout import LANES
from teflon_rocket.operations import dpu, dpu_rdma
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.commands import Commands
from teflon_rocket.operations.convolution import cna
from teflon_rocket.operations.convolution.coefs import Coefs, pack_stream
from teflon_rocket.operations.convolution.geometry import Geometry
from teflon_rocket.operations.convolution.tiles import Split, Tile
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.operations.numbers import NO_CLAMPS, Channels, Clamps, Converter, Operand
from teflon_rocket.operations.stages import Stage, emit_bn, emit_bs
from teflon_rocket.registers import CNA, CORE, DPU, DPU_RDMA

BIAS_BYTES = 4
_STREAM_BYTES = 8
"""Bias, zero point and factor of a channel."""
_FACTOR_BYTES = 2

_LEAST_STRIDE = 12
"""Smallest EW_SURF_STRIDE, in pixels: what Mesa writes for smaller maps."""
_NOTCH_OF_WIDTH_3 = 15
"""What Mesa writes for inputs of three columns."""
_SIGNED = Converter(-128, 16384, 14)
"""Takes bytes to what the CORE multiplies: v - 128."""


class Numbers(NamedTuple):
    """What quantisation makes of a convolution: register values.

    compensation: BS_OW_OP. pad: PAD_CON1, 32 bits. truncate: low bits of the accumulator that are
    dropped. input: used for rows of bytes only. channels: stands for compensation and for the
    limits before an addition where each channel has its own scale.
    """

    compensation: int
    pad: int
    output: Converter
    truncate: int = 0
    input: Converter = _SIGNED
    clamps: Clamps = NO_CLAMPS
    channels: Channels | None = None

    def part(self, some: slice) -> Self:
        """Return the numbers of some of the output channels."""
        if self.channels is None:
            return self
        return self._replace(channels=self.channels.part(some))


@dataclass(frozen=True, eq=False)
class Convolution(Operation):
    """One convolution; `operand` is added to its result where it is set.

    surface: the first surface of the output that it writes; others write those before it. apart:
    pixels of the output from one of its pixels to the next, where they are written by themselves
    and rows are those of the output (depthwise, at most 64 channels); 0: side by side.
    """

    units = (CNA, CORE, DPU, DPU_RDMA)

    name: str
    input: Feature
    output: Feature
    geometry: Geometry
    split: Split
    coefs: Coefs
    numbers: Numbers
    operand: Operand | None = None
    surface: int = 0
    macs: int = 0
    apart: int = 0

    def __post_init__(self) -> None:
        assert self.coefs.weights.shape == self.geometry.weights_shape, self.name
        assert self.coefs.bias.shape == (self.geometry.out_channels,), self.name

    @property
    def reads(self) -> tuple[Feature, ...]:
        if self.operand is None or self.operand.constant is not None:
            return (self.input,)
        return (self.input, self.operand.feature)

    @property
    def writes(self) -> tuple[Feature, ...]:
        return (self.output,)

    def surfaces(self, feature: Feature) -> int:
        """The DPU pads channels to 32 or 64 in what it writes, and in what it reads to add."""
        added = None if self.operand is None else self.operand.feature
        if feature not in (self.output, added):
            return feature.surfaces
        padded = self.geometry.padded_out_channels // LANES
        return max(feature.surfaces, self.surface + padded)

    @cached_property
    def weights(self) -> Constant:
        """What the CNA loads as weights."""
        packed = self.coefs.packed_weights()
        return Constant("weights", packed.tobytes(), self.geometry.weight_bytes)

    @cached_property
    def biases(self) -> Constant:
        """What the DPU adds, a number for each output channel; with it what it multiplies by."""
        channels, padded = self.numbers.channels, self.geometry.padded_out_channels
        packed = self.coefs.packed_biases(self.numbers.clamps.origin).astype("<i4")
        if channels is not None:
            stream = pack_stream(packed, channels.compensation, channels.factor, padded)
            return Constant("operands", stream.tobytes(), padded * _STREAM_BYTES)
        return Constant("biases", packed.tobytes(), padded * BIAS_BYTES)

    @cached_property
    def factors(self) -> Constant | None:
        """What BN multiplies by, a number for each output channel."""
        channels, padded = self.numbers.channels, self.geometry.padded_out_channels
        if channels is None or channels.late is None:
            return None
        data = np.zeros(padded, "<i2")
        data[: len(channels.late)] = channels.late
        return Constant("factors", data.tobytes(), padded * _FACTOR_BYTES)

    @property
    def constants(self) -> tuple[Constant, ...]:
        operand = None if self.operand is None else self.operand.constant
        every = (self.weights, self.biases, self.factors, operand)
        return tuple(constant for constant in every if constant is not None)

    @property
    def _stages(self) -> tuple[Stage, Stage] | None:
        """BS and BN where each channel has its own operands."""
        channels = self.numbers.channels
        if channels is None:
            return None
        bs = channels.bs._replace(add=self.biases, factor=self.biases)
        return bs, channels.bn if channels.late is None else channels.bn._replace(
            factor=self.factors
        )

    @property
    def tasks(self) -> int:
        return len(self.split.tiles)

    def emit(self, task: int, commands: Commands) -> None:
        tile, numbers = self.split.tiles[task], self.numbers
        fetch = cna.Fetch(
            self.geometry, self.split, task, self.input, self.weights, numbers.pad, numbers.input
        )
        cube = self._cube(tile)
        cna.cna(commands, fetch)
        cna.core(commands, self.geometry, tile, numbers.truncate)
        self._emit_dpu(commands, cube)
        self._emit_reader(commands, cube, tile)

    def _cube(self, tile: Tile) -> dpu.Cube:
        geometry = self.geometry
        return dpu.Cube(
            feature=self.output,
            offset=self._offset(self.output, tile),
            width=tile.out_columns,
            height=tile.out_rows,
            channels=geometry.out_channels,
            padded_channels=geometry.padded_out_channels,
            groups=4 if geometry.depthwise else 2,
            apart=self.apart,
        )

    def _offset(self, feature: Feature, tile: Tile) -> int:
        """Where a tile begins in the output, or in what is added."""
        start = tile.image * feature.image_bytes + self.surface * feature.surface_bytes
        if self.apart:
            pixels = tile.out_top * feature.shape[2] + tile.out_left * self.apart
            return start + pixels * LANES
        return start + self.geometry.output_offset(tile)

    def _emit_dpu(self, c: Commands, cube: dpu.Cube) -> None:
        numbers, mode = self.numbers, cna.mode(self.geometry)
        c.write(
            DPU.FEATURE_MODE_CFG,
            OUTPUT_MODE=dpu.TO_MEMORY,
            CONV_MODE=mode,
            BURST_LEN=dpu.BURST_16,
        )
        if (stages := self._stages) is None:
            dpu.cube(c, cube)
            dpu.bias(c, numbers.clamps)
            dpu.compensation(c, cube, numbers.compensation)
            dpu.write_size(c, cube)
            dpu.shift_origin(c, numbers.clamps.shift)
        else:
            bs, bn = stages
            dpu.cube(c, cube, bs.below, bn.below)
            emit_bs(c, bs)
            dpu.compensation(c, cube, None)
            dpu.write_size(c, cube)
            emit_bn(c, bn)
        if self.operand is None:
            dpu.no_operand(c)
        else:
            dpu.add_operand(c, self.operand, numbers.clamps)
        dpu.convert(c, numbers.output)
        dpu.finish(c, cube)

    def _emit_reader(self, c: Commands, cube: dpu.Cube, tile: Tile) -> None:
        source = self._source(tile)
        dpu_rdma.size(c, cube)
        if source is None:
            sources = {"MRDMA_DISABLE": 1}
            dpu_rdma.main(c, None)
        else:
            sources = {"COMB_USE": dpu_rdma.COMB_ONE_MAP}
            dpu_rdma.main(c, source.feature, source.offset)
        if self.numbers.channels is None:
            dpu_rdma.biases(c, self.biases)
        else:
            dpu_rdma.channels(c, self.biases, self.factors)
        dpu_rdma.elementwise(c, source)
        c.write(
            DPU_RDMA.RDMA_FEATURE_MODE_CFG,
            CONV_MODE=cna.mode(self.geometry),
            BURST_LEN=dpu.BURST_16,
            **sources,
        )
        dpu_rdma.notches(c, source)

    def _source(self, tile: Tile) -> dpu_rdma.Surfaces | None:
        """Where the reader finds what is added."""
        if self.operand is None:
            return None
        feature, geometry, constant = self.operand.feature, self.geometry, self.operand.constant
        if constant is None:
            pixels, offset = feature.surface_pixels, self._offset(feature, tile)
        else:
            pixels, offset = geometry.out_pixels, geometry.output_offset(tile)
        stride = max(pixels, _LEAST_STRIDE)
        notch = stride + pixels - tile.out_columns * tile.out_rows
        return dpu_rdma.Surfaces(
            constant or feature,
            offset,
            second=offset + pixels * LANES,
            stride=stride,
            notch=_NOTCH_OF_WIDTH_3 if geometry.width == 3 else notch,
        )

    @property
    def performed(self) -> int:
        """Those of pooling are none of the model's."""
        g = self.geometry
        each = g.taps * g.channels * (1 if g.depthwise else g.out_channels)
        return self.macs or g.images * g.out_pixels * each

    @property
    def moved(self) -> int:
        geometry, tiles = self.geometry, self.split.tiles
        loads = 1 if self.split.reuse else len(tiles)
        moved = len(tiles) * self._operand_bytes + loads * geometry.weight_bytes
        atom = 1 if geometry.rows else geometry.padded_channels
        maps = 1 if self.operand is None else 2
        for tile in tiles:
            moved += tile.rows * tile.columns * atom
            moved += tile.out_rows * tile.out_columns * geometry.padded_out_channels * maps
        return moved

    @property
    def _operand_bytes(self) -> int:
        """Bytes of what the DPU reads for each channel."""
        channels = self.numbers.channels
        if channels is None:
            return self.geometry.out_channels * BIAS_BYTES
        late = 0 if channels.late is None else self.geometry.out_channels * _FACTOR_BYTES
        return self.geometry.padded_out_channels * _STREAM_BYTES + late

    def text(self) -> str:
        geometry, split = self.geometry, self.split
        kind = "depthwise" if geometry.depthwise else "convolution"
        facts = [
            f"{geometry.height}x{geometry.width}x{geometry.channels} -> "
            f"{geometry.out_height}x{geometry.out_width}x{geometry.out_channels}",
            f"kernel {geometry.kernel[1]}x{geometry.kernel[0]} "
            f"stride {geometry.stride[1]}x{geometry.stride[0]}",
            f"banks {split.data_banks} data {split.weight_banks} weights",
            "weights stay" if split.reuse else "weights again for each task",
        ]
        tiles = [f"  task {number}: {tile.text()}" for number, tile in enumerate(split.tiles)]
        return "\n".join([f"rocket: {self.name} {kind} {', '.join(facts)}", *tiles])
