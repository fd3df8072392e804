# Ref: docs/hardware/rocket.md §7 (order and values), §1.5 (trailer), §6.3
# Ref: Mesa, src/gallium/drivers/rocket/rkt_regcmd.c (same order of registers)
"""One task as the list of 130 64-bit commands that the PC fetches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from teflon.ir.types import Array
from teflon_common.layout import LANES
from teflon_common.registers import Register
from teflon_rocket.operation import Operation
from teflon_rocket.registers import (
    CNA,
    CORE,
    DPU,
    DPU_RDMA,
    GLOBAL,
    PC,
    PREPARE_WORD,
    WRITE,
    command,
    enable_command,
)
from teflon_rocket.tasks import Split, Tile

WORDS = 130
"""Commands of every list."""
LIST_BYTES = -(-WORDS * 8 // 64) * 64
"""From one list of an operation to the next."""

_LINES = 4  # rows of one group of DMA_CON1.LINE_STRIDE
_GRAINS = 50  # FEATURE_GRAINS = 50 + stride + 1; Mesa's number
_NEXT = WORDS - 4  # index of the word that may hold the next list's address
_NEXT_AMOUNT = -(-(WORDS - 4) // 2 // 2) * 2  # PC_DATA_AMOUNT of a list that follows
_DIRECT, _DEPTHWISE = 0, 3
_BURST_16 = 15
_KEPT = 8192  # packed commands that are remembered: layers repeat


@dataclass(frozen=True)
class Address:
    """A word of a list that holds a device address: which buffer, and what is added to it.

    what: input, weights, output, operand, biases, next (the operation's own lists).
    """

    word: int
    what: str
    addend: int


Commands = Iterator[int]
Emit = Callable[..., int]


@functools.lru_cache(_KEPT)
def wrapping(register: type[Register], **values: int) -> int:
    """Return the command with every value cut to its field, as Mesa's macros do."""
    packed = 0
    for field in register.fields:
        stored = values.get(field.name, field.minus) - field.minus
        packed |= (stored & ((1 << field.width) - 1)) << field.lo
    return (register.block.target + WRITE) << 48 | packed << 16 | register.offset


@functools.lru_cache(_KEPT)
def strict(register: type[Register], **values: int) -> int:
    """Return the command; raises FieldOverflow where a value does not fit its field."""
    return command(register(**values))


@functools.cache
def _plain(register: type[Register]) -> int:
    """Return the command that writes 0."""
    return command(register())


@functools.cache
def _fixed(register: type[Register], **values: int) -> int:
    """Return a command whose values never change."""
    return command(register(**values))


def _zeros(block: Any, *names: str) -> Commands:
    return (_plain(getattr(block, name)) for name in names)


def _numbered(block: Any, name: str, numbers: Iterable[int]) -> Commands:
    return _zeros(block, *(f"{name}{n}" for n in numbers))


def command_lists(op: Operation, split: Split, emit: Emit) -> Array:
    """Return the lists of an operation, uint64 [tasks, LIST_BYTES / 8], addresses left 0.

    Raises FieldOverflow where a value does not fit (with `strict`).
    """
    lists = np.zeros((len(split.tiles), LIST_BYTES // 8), np.uint64)
    for number, tile in enumerate(split.tiles):
        words = [*_cna(op, split, tile, number, emit), *_core(op, tile, emit)]
        words += [*_dpu(op, tile, emit), *_rdma(op, tile, emit)]
        words += _trailer(number, len(split.tiles))
        lists[number, : len(words)] = words
    return lists


def addresses(op: Operation, split: Split) -> list[list[Address]]:
    """Return, for each list of the operation, the words that hold addresses."""
    return [
        [*_feature_addresses(op, tile), *_next_address(number, len(split.tiles))]
        for number, tile in enumerate(split.tiles)
    ]


def _feature_addresses(op: Operation, tile: Tile) -> Iterator[Address]:
    yield Address(26, "input", _input_offset(op, tile))
    yield Address(35, "weights", 0)
    yield Address(62, "output", _output_offset(op, tile))
    if op.operand is not None:
        offset = _output_offset(op, tile)
        yield Address(112, "operand", offset)
    yield Address(114, "biases", 0)
    if op.operand is not None:
        yield Address(118, "operand", offset + op.out_width * op.out_height * LANES)


def _next_address(number: int, count: int) -> Iterator[Address]:
    if number + 1 < count:
        yield Address(_NEXT, "next", (number + 1) * LIST_BYTES)


def _input_offset(op: Operation, tile: Tile) -> int:
    start = tile.image * op.input.image_bytes
    if op.row_input and op.by_pitch:
        return start + tile.top * op.input.row_pitch + tile.left
    return start + (tile.top * op.width + tile.left) * LANES


def _output_offset(op: Operation, tile: Tile) -> int:
    pixels = op.surface * op.out_width * op.out_height
    pixels += tile.out_top * op.out_width + tile.out_left
    return tile.image * op.output.image_bytes + pixels * LANES


def _cna(op: Operation, split: Split, tile: Tile, number: int, emit: Emit) -> Commands:
    again = int(number > 0 and split.reuse)
    banks = emit(
        CNA.CBUF_CON0,
        DATA_BANK=split.data_banks,
        WEIGHT_BANK=split.weight_banks,
        WEIGHT_REUSE=again,
    )
    mode = _mode(op.depthwise, op.one_channel)
    yield banks
    yield from _zeros(CNA, "DCOMP_REGNUM", "DCOMP_CTRL")
    yield mode
    yield _fixed(DPU.S_POINTER, POINTER_PP_EN=1, EXECUTER_PP_EN=1, POINTER_PP_MODE=1)
    yield _fixed(DPU_RDMA.RDMA_S_POINTER, POINTER_PP_EN=1, EXECUTER_PP_EN=1, POINTER_PP_MODE=1)
    yield mode
    yield emit(CNA.CONV_CON2, FEATURE_GRAINS=_GRAINS + op.stride[1] + 1)
    yield emit(CNA.CONV_CON3, CONV_X_STRIDE=op.stride[0], CONV_Y_STRIDE=op.stride[1])
    yield from _cna_sizes(op, tile, emit)
    yield banks
    yield emit(CNA.CBUF_CON1, DATA_ENTRIES=op.entries(tile.columns))
    yield from _converter(op, emit)
    yield from _zeros(CNA, "FC_CON0", "FC_CON1")
    yield emit(CNA.PAD_CON0, PAD_LEFT=tile.pad_left, PAD_TOP=tile.pad_top)
    yield from _cna_dma(op, tile, emit)
    yield (
        _plain(CNA.CVT_CON5)
        if not op.one_channel
        else emit(CNA.CVT_CON5, PER_CHANNEL_CVT_EN=0xFFFF)
    )
    yield emit(CNA.PAD_CON1, PAD_VALUE=op.numbers.pad & 0xFFFFFFFF)


@functools.cache
def _mode(depthwise: bool, one_channel: bool) -> int:
    argb = {"ARGB_IN": 8, "GROUP_LINE_OFF": 1, "NONALIGN_DMA": 1} if one_channel else {}
    return strict(CNA.CONV_CON1, CONV_MODE=_DEPTHWISE if depthwise else _DIRECT, **argb)


def _cna_sizes(op: Operation, tile: Tile, emit: Emit) -> Commands:
    width = op.fetched_width(tile.columns)
    kernel = op.taps * op.padded_channels
    yield emit(CNA.DATA_SIZE0, DATAIN_WIDTH=width, DATAIN_HEIGHT=tile.rows)
    yield emit(CNA.DATA_SIZE1, DATAIN_CHANNEL_REAL=op.channels, DATAIN_CHANNEL=op.padded_channels)
    yield emit(CNA.DATA_SIZE2, DATAOUT_WIDTH=tile.out_columns)
    yield emit(CNA.DATA_SIZE3, DATAOUT_ATOMICS=tile.out_columns * tile.out_rows)
    yield emit(CNA.WEIGHT_SIZE0, WEIGHT_BYTES=op.weight_bytes)
    yield emit(CNA.WEIGHT_SIZE1, WEIGHT_BYTES_PER_KERNEL=kernel)
    yield emit(
        CNA.WEIGHT_SIZE2,
        WEIGHT_WIDTH=op.kernel[0],
        WEIGHT_HEIGHT=op.kernel[1],
        WEIGHT_KERNELS=op.kernels,
    )


def _converter(op: Operation, emit: Emit) -> Commands:
    if not op.one_channel:
        yield _fixed(CNA.CVT_CON0, CVT_BYPASS=1, CVT_TYPE=1, DATA_SIGN=1)
        scale, offset = 1, 0
    else:
        shift = op.numbers.input_shift
        yield emit(CNA.CVT_CON0, **{f"CVT_TRUNCATE_{n}": shift for n in range(4)})
        scale, offset = op.numbers.input_scale, -128
    for n in range(4):
        register = getattr(CNA, f"CVT_CON{n + 1}")
        yield emit(register, **{f"CVT_SCALE{n}": scale, f"CVT_OFFSET{n}": offset})


def _cna_dma(op: Operation, tile: Tile, emit: Emit) -> Commands:
    line, surface = op.strides
    yield _plain(CNA.FEATURE_DATA_ADDR)
    yield _plain(CNA.FC_CON2)
    yield _fixed(CNA.DMA_CON0, DATA_BURST_LEN=_BURST_16, WEIGHT_BURST_LEN=_BURST_16)
    yield emit(CNA.DMA_CON1, LINE_STRIDE=line)
    yield emit(CNA.DMA_CON2, SURF_STRIDE=surface)
    yield emit(CNA.FC_DATA_SIZE0, DMA_WIDTH=tile.columns, DMA_HEIGHT=tile.rows)
    yield emit(CNA.FC_DATA_SIZE1, DMA_CHANNEL=op.padded_channels)
    yield from _zeros(CNA, "DCOMP_CTRL", "DCOMP_REGNUM", "DCOMP_ADDR0")
    yield from _numbered(CNA, "DCOMP_AMOUNT", range(16))


def _core(op: Operation, tile: Tile, emit: Emit) -> Commands:
    yield emit(CORE.MISC_CFG, QD_EN=1, DW_EN=int(op.depthwise))
    yield emit(CORE.DATAOUT_SIZE_0, DATAOUT_WIDTH=tile.out_columns, DATAOUT_HEIGHT=tile.out_rows)
    yield emit(CORE.DATAOUT_SIZE_1, DATAOUT_CHANNEL=op.padded_out_channels)
    yield emit(CORE.CLIP_TRUNCATE, CLIP_TRUNCATE=op.numbers.truncate)
    yield _plain(CORE.UNKNOWN_3030)


def _dpu(op: Operation, tile: Tile, emit: Emit) -> Commands:
    numbers = op.numbers
    yield _feature_mode(op.depthwise)
    yield from _zeros(DPU, "DATA_FORMAT", "OFFSET_PEND", "DST_BASE_ADDR")
    yield emit(DPU.DST_SURF_STRIDE, DST_SURF_STRIDE=op.out_width * op.out_height)
    yield emit(DPU.DATA_CUBE_WIDTH, WIDTH=tile.out_columns)
    yield emit(DPU.DATA_CUBE_HEIGHT, HEIGHT=tile.out_rows)
    yield _plain(DPU.DATA_CUBE_NOTCH_ADDR)
    yield emit(DPU.DATA_CUBE_CHANNEL, ORIG_CHANNEL=op.out_channels, CHANNEL=op.padded_out_channels)
    yield from _dpu_bs(op, emit)
    yield emit(DPU.BS_OW_OP, OW_OP=numbers.weight_offset)
    yield emit(DPU.WDMA_SIZE_0, CHANNEL_WDMA=op.padded_out_channels)
    yield emit(DPU.WDMA_SIZE_1, WIDTH_WDMA=tile.out_columns, HEIGHT_WDMA=tile.out_rows)
    yield from _dpu_bn(op, emit)
    yield from _dpu_ew(op, emit)
    yield emit(DPU.OUT_CVT_OFFSET, OUT_CVT_OFFSET=numbers.output_offset)
    yield emit(DPU.OUT_CVT_SCALE, OUT_CVT_SCALE=numbers.output_scale)
    yield emit(DPU.OUT_CVT_SHIFT, OUT_CVT_SHIFT=numbers.output_shift)
    yield from _numbered(DPU, "EW_OP_VALUE_", range(8))
    surfaces = op.out_width * op.out_height * (4 if op.depthwise else 2)
    yield emit(DPU.SURFACE_ADD, SURF_ADD=surfaces)
    yield _plain(DPU.UNKNOWN_40C4)
    yield from _zeros(DPU, "LUT_ACCESS_CFG", "LUT_ACCESS_DATA", "LUT_CFG", "LUT_INFO")
    yield from _zeros(DPU, "LUT_LE_START", "LUT_LE_END", "LUT_LO_START", "LUT_LO_END")
    yield from _zeros(DPU, "LUT_LE_SLOPE_SCALE", "LUT_LE_SLOPE_SHIFT")
    yield from _zeros(DPU, "LUT_LO_SLOPE_SCALE", "LUT_LO_SLOPE_SHIFT")


@functools.cache
def _feature_mode(depthwise: bool) -> int:
    mode = _DEPTHWISE if depthwise else _DIRECT
    return strict(DPU.FEATURE_MODE_CFG, OUTPUT_MODE=2, CONV_MODE=mode, BURST_LEN=_BURST_16)


def _dpu_bs(op: Operation, emit: Emit) -> Commands:
    """Bias from BRDMA, then the accumulator's lower and upper limit where there are any."""
    clamps, groups = op.numbers.clamps, 4 if op.depthwise else 2
    yield emit(
        DPU.BS_CFG,
        BS_ALU_ALGO=2,
        BS_ALU_SRC=1,
        BS_MUL_BYPASS=1,
        BS_RELU_BYPASS=int(not clamps.relu),
        BS_RELUX_EN=int(clamps.ceiling is not None),
    )
    yield from _zeros(DPU, "BS_ALU_CFG", "BS_MUL_CFG")
    yield emit(DPU.BS_RELUX_CMP_VALUE, BS_RELUX_CMP_DAT=clamps.ceiling or 0)
    yield emit(DPU.BS_OW_CFG, OD_BYPASS=0, SIZE_E_0=groups, SIZE_E_1=groups, SIZE_E_2=groups)


def _dpu_bn(op: Operation, emit: Emit) -> Commands:
    """Put the origin back that the BS stage moved to its lower limit."""
    shift = op.numbers.clamps.shift
    if shift:
        yield _fixed(DPU.BN_CFG, BN_ALU_ALGO=2, BN_MUL_BYPASS=1, BN_RELU_BYPASS=1)
    else:
        yield _fixed(DPU.BN_CFG, BN_BYPASS=1, BN_ALU_BYPASS=1, BN_MUL_BYPASS=1, BN_RELU_BYPASS=1)
    yield emit(DPU.BN_ALU_CFG, BN_ALU_OPERAND=shift)
    yield from _zeros(DPU, "BN_MUL_CFG", "BN_RELUX_CMP_VALUE")


def _dpu_ew(op: Operation, emit: Emit) -> Commands:
    operand, clamps = op.operand, op.numbers.clamps
    if operand is None:
        bypass = ("EW_BYPASS", "EW_OP_BYPASS", "EW_LUT_BYPASS", "EW_OP_CVT_BYPASS")
        yield _fixed(DPU.EW_CFG, **dict.fromkeys(bypass, 1), EW_RELU_BYPASS=1)
        yield _plain(DPU.EW_CVT_OFFSET_VALUE)
        yield _fixed(DPU.EW_CVT_SCALE_VALUE, EW_OP_CVT_SCALE=1)
        yield _plain(DPU.EW_RELUX_CMP_VALUE)
        return
    yield emit(
        DPU.EW_CFG,
        EW_OP_SRC=1,
        EW_LUT_BYPASS=1,
        EW_RELU_BYPASS=int(not clamps.late_relu),
        EW_RELUX_EN=int(clamps.late_ceiling is not None),
        EW_ALU_ALGO=2,
        EDATA_SIZE=1,
        EW_DATA_MODE=1,
        EW_CVT_TYPE=1,
    )
    yield emit(DPU.EW_CVT_OFFSET_VALUE, EW_OP_CVT_OFFSET=operand.offset)
    yield emit(DPU.EW_CVT_SCALE_VALUE, EW_OP_CVT_SCALE=operand.scale, EW_OP_CVT_SHIFT=operand.shift)
    yield emit(DPU.EW_RELUX_CMP_VALUE, EW_RELUX_CMP_DAT=clamps.late_ceiling or 0)


def _rdma(op: Operation, tile: Tile, emit: Emit) -> Commands:
    pitch, notch = _operand_strides(op, tile)
    yield emit(DPU_RDMA.RDMA_DATA_CUBE_WIDTH, WIDTH=tile.out_columns)
    yield emit(DPU_RDMA.RDMA_DATA_CUBE_HEIGHT, HEIGHT=tile.out_rows)
    yield emit(DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, CHANNEL=op.padded_out_channels)
    yield _plain(DPU_RDMA.RDMA_SRC_BASE_ADDR)
    yield _fixed(DPU_RDMA.RDMA_BRDMA_CFG, BRDMA_DATA_USE=1)
    yield _plain(DPU_RDMA.RDMA_BS_BASE_ADDR)
    yield from _zeros(DPU_RDMA, "RDMA_NRDMA_CFG", "RDMA_BN_BASE_ADDR")
    yield _erdma(op.operand is not None)
    yield _plain(DPU_RDMA.RDMA_EW_BASE_ADDR)
    yield emit(DPU_RDMA.RDMA_EW_SURF_STRIDE, EW_SURF_STRIDE=pitch)
    yield _rdma_mode(op.depthwise, op.operand is not None)
    yield _plain(DPU_RDMA.RDMA_SRC_DMA_CFG)
    yield emit(DPU_RDMA.RDMA_SURF_NOTCH, SURF_NOTCH_ADDR=notch)
    yield _plain(DPU_RDMA.RDMA_PAD_CFG)
    yield _fixed(DPU_RDMA.RDMA_WEIGHT, M_WEIGHT=1, B_WEIGHT=1, N_WEIGHT=1, E_WEIGHT=1)
    yield emit(DPU_RDMA.RDMA_EW_SURF_NOTCH, EW_SURF_NOTCH=notch)


@functools.cache
def _erdma(addition: bool) -> int:
    if addition:
        return strict(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DATA_SIZE=1, ERDMA_DATA_MODE=1)
    return strict(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DISABLE=1)


@functools.cache
def _rdma_mode(depthwise: bool, addition: bool) -> int:
    mode = _DEPTHWISE if depthwise else _DIRECT
    sources = {"COMB_USE": 5} if addition else {"MRDMA_DISABLE": 1}
    return strict(DPU_RDMA.RDMA_FEATURE_MODE_CFG, CONV_MODE=mode, BURST_LEN=_BURST_16, **sources)


def _operand_strides(op: Operation, tile: Tile) -> tuple[int, int]:
    """EW_SURF_STRIDE and the notches: what lies between a band's last row and the first row of
    the next surface but one. Minimum and special case are Mesa's, from observation.
    """
    if op.operand is None:
        return 0, 0
    pixels = op.out_width * op.out_height
    pitch = max(pixels, 12)
    if op.width == 3:
        return pitch, 15
    return pitch, pitch + pixels - tile.out_columns * tile.out_rows


def _trailer(number: int, count: int) -> Sequence[int]:
    chained = number + 1 < count
    return (
        _fixed(PC.BASE_ADDRESS) if count > 1 else 0,
        _fixed(PC.REGISTER_AMOUNTS, PC_DATA_AMOUNT=_NEXT_AMOUNT if chained else 0),
        PREPARE_WORD,
        _enable(),
    )


@functools.cache
def _enable() -> int:
    """CNA, CORE, DPU, DPU_RDMA."""
    blocks = GLOBAL.OPERATION_ENABLE(CNA_OP_EN=1, CORE_OP_EN=1, DPU_OP_EN=1, DPU_RDMA_OP_EN=1)
    return enable_command(blocks.pack())
