# Ref: docs/hardware/rocket.md §1.1 (MACs per cycle), §4.1 (16-byte atoms), §4.3 (groups of channels
# Ref: and kernels), §6 (tasks, fetched rows, weight reuse), §8 (which unit reads and writes what)
"""What a task makes each unit do, read off its command list: the model of time counts from here."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TypeVar

from teflon.errors import ProgramError
from teflon_common.registers import Register
from teflon_rocket.chips import Chip
from teflon_rocket.registers import (
    CNA,
    CORE,
    DPU,
    DPU_RDMA,
    ENABLE_TARGET,
    GLOBAL,
    PC,
    PPU,
    PPU_RDMA,
    WRITE,
    split_command,
)

R = TypeVar("R", bound=Register)

_COMMAND_BYTES = 8
_DEPTHWISE = 3  # CONV_MODE
_ONE_CHANNEL = 8  # ARGB_IN; 9, 10, 11 are two, three and four interleaved channels
_INT16 = 1  # IN_PRECISION
_ONE_MAP = 1  # COMB_USE: MRDMA and ERDMA share one feature map
_PLAIN = {0: 0, 1: 4, 4: 2}  # BRDMA_DATA_USE, NRDMA_DATA_USE: bytes of a channel of a plain array
_GROUPED, _GROUP = 8, 64  # else a stream of groups: their channels, their bytes


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates, cycles of the array, and bytes; `coefficients` are part of `read`.

    hits: bytes that were not read again because they stayed in the chip.
    """

    macs: int = 0
    cycles: int = 0
    read: int = 0
    written: int = 0
    coefficients: int = 0
    hits: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*map(operator.add, astuple(self), astuple(other)))


class Registers:
    """What a command list writes: ``registers[CNA.CONV_CON3]``, all 0 where nothing is written."""

    def __init__(self, words: Sequence[int]) -> None:
        self._values = {(c[0], c[1]): c[2] for c in map(split_command, words)}

    def __getitem__(self, register: type[R]) -> R:
        place = (register.block.target + WRITE, register.offset)
        return register.unpack(self._values.get(place, 0))

    def units(self) -> list[str]:
        """Return the names of the units that it starts."""
        mask = self._values.get((ENABLE_TARGET, PC.OPERATION_ENABLE.offset), 0)
        started = GLOBAL.OPERATION_ENABLE.unpack(mask).changed()
        return [name.removesuffix("_OP_EN") for name in started]


def work(words: Sequence[int], chip: Chip, name: str) -> Work:
    """Return what a task does. Raises ProgramError for a unit that is not modelled."""
    registers = Registers(words)
    total = Work(read=_COMMAND_BYTES * len(words))
    for unit in registers.units():
        if unit not in UNITS:
            raise ProgramError(
                f"rocket: {name!r} runs on the {unit}, the model of time has only"
                f" {', '.join(UNITS)}"
            )
        total += UNITS[unit](registers, chip)
    return total


def _cna(registers: Registers, _chip: Chip) -> Work:
    """Features, and weights unless they are still in the buffer."""
    fetched, mode = registers[CNA.FC_DATA_SIZE0], registers[CNA.CONV_CON1]
    interleaved = mode.ARGB_IN - _ONE_CHANNEL + 1 if mode.ARGB_IN else 0
    pixel = interleaved or registers[CNA.DATA_SIZE1].DATAIN_CHANNEL
    weights = registers[CNA.WEIGHT_SIZE0].WEIGHT_BYTES
    hits = weights if registers[CNA.CBUF_CON0].WEIGHT_REUSE else 0
    return Work(
        read=fetched.DMA_WIDTH * fetched.DMA_HEIGHT * pixel + weights - hits,
        coefficients=weights - hits,
        hits=hits,
    )


def _core(registers: Registers, chip: Chip) -> Work:
    """A tap of an output pixel takes as many cycles as there are groups of channels and kernels."""
    size, out = registers[CNA.DATA_SIZE1], registers[CORE.DATAOUT_SIZE_0]
    kernel, kernels = registers[CNA.WEIGHT_SIZE2], registers[DPU.DATA_CUBE_CHANNEL].ORIG_CHANNEL
    pixels = out.DATAOUT_WIDTH * out.DATAOUT_HEIGHT
    taps = kernel.WEIGHT_WIDTH * kernel.WEIGHT_HEIGHT
    if registers[CNA.CONV_CON1].CONV_MODE == _DEPTHWISE:
        groups, each = -(-size.DATAIN_CHANNEL // chip.depthwise_channels), 1
    else:
        groups = -(-size.DATAIN_CHANNEL // chip.weight_channels) * -(-kernels // chip.kernel_group)
        each = kernels
    return Work(macs=pixels * taps * size.DATAIN_CHANNEL_REAL * each, cycles=pixels * taps * groups)


def _dpu(registers: Registers, _chip: Chip) -> Work:
    """The cube, with the channels that it is padded by; of a pass what it reads, and repeats."""
    if registers[DPU.FEATURE_MODE_CFG].FLYING_MODE:
        repeated = registers[DPU_RDMA.RDMA_SRC_DMA_CFG]
        times = repeated.KERNEL_WIDTH * repeated.KERNEL_HEIGHT
        return Work(written=_main_map(registers) * times)
    width, height = registers[DPU.DATA_CUBE_WIDTH], registers[DPU.DATA_CUBE_HEIGHT]
    channels = registers[DPU.DATA_CUBE_CHANNEL].CHANNEL
    return Work(written=width.WIDTH * height.HEIGHT * channels)


def _dpu_rdma(registers: Registers, _chip: Chip) -> Work:
    """Operands per channel, and the feature maps of MRDMA and ERDMA."""
    streams = _stream(registers, registers[DPU_RDMA.RDMA_BRDMA_CFG].BRDMA_DATA_USE)
    streams += _stream(registers, registers[DPU_RDMA.RDMA_NRDMA_CFG].NRDMA_DATA_USE)
    channels = registers[DPU_RDMA.RDMA_DATA_CUBE_CHANNEL].CHANNEL
    cube = _main_map(registers)
    mode, other = registers[DPU_RDMA.RDMA_FEATURE_MODE_CFG], registers[DPU_RDMA.RDMA_ERDMA_CFG]
    if mode.COMB_USE & _ONE_MAP:
        maps = cube
    else:
        operand = cube if other.ERDMA_DATA_MODE else channels
        maps = cube * int(not mode.MRDMA_DISABLE) + operand * int(not other.ERDMA_DISABLE)
    return Work(read=streams + maps, coefficients=streams)


def _main_map(registers: Registers) -> int:
    """Return the bytes of what MRDMA reads, or would read."""
    elements = (
        registers[DPU_RDMA.RDMA_DATA_CUBE_WIDTH].WIDTH
        * registers[DPU_RDMA.RDMA_DATA_CUBE_HEIGHT].HEIGHT
        * registers[DPU_RDMA.RDMA_DATA_CUBE_CHANNEL].CHANNEL
    )
    wide = registers[DPU_RDMA.RDMA_FEATURE_MODE_CFG].IN_PRECISION == _INT16
    return elements * (1 + wide)


def _stream(registers: Registers, use: int) -> int:
    """Return the bytes of operands per channel."""
    channels = registers[DPU.DATA_CUBE_CHANNEL]
    if use in _PLAIN:
        return channels.ORIG_CHANNEL * _PLAIN[use]
    return -(-channels.CHANNEL // _GROUPED) * _GROUP


def _ppu(registers: Registers, _chip: Chip) -> Work:
    """What it writes, with the channels that the map is padded by."""
    width, height = registers[PPU.DATA_CUBE_OUT_WIDTH], registers[PPU.DATA_CUBE_OUT_HEIGHT]
    channels = registers[PPU.DATA_CUBE_OUT_CHANNEL].CUBE_OUT_CHANNEL
    return Work(written=width.CUBE_OUT_WIDTH * height.CUBE_OUT_HEIGHT * channels)


def _ppu_rdma(registers: Registers, _chip: Chip) -> Work:
    """What is pooled."""
    width = registers[PPU_RDMA.RDMA_CUBE_IN_WIDTH].CUBE_IN_WIDTH
    height = registers[PPU_RDMA.RDMA_CUBE_IN_HEIGHT].CUBE_IN_HEIGHT
    channels = registers[PPU_RDMA.RDMA_CUBE_IN_CHANNEL].CUBE_IN_CHANNEL
    return Work(read=width * height * channels)


UNITS: Mapping[str, Callable[[Registers, Chip], Work]] = {
    "CNA": _cna,
    "CORE": _core,
    "DPU": _dpu,
    "DPU_RDMA": _dpu_rdma,
    "PPU": _ppu,
    "PPU_RDMA": _ppu_rdma,
}
