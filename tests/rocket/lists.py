"""Command lists for the simulated RK3588, written by hand for its tests, without the compiler.

`Case` describes one convolution in the hardware's own terms; `Bench` lays it out in memory, runs
it, and `expected` says with loops over taps what must come out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from teflon_common.memory import DeviceMemory
from teflon_common.registers import Register
from teflon_rocket.chips import RK3588
from teflon_rocket.registers import (
    CNA,
    CORE,
    DPU,
    DPU_RDMA,
    PREPARE_WORD,
    REGISTERS,
    WRITE,
    command,
    enable_command,
)
from teflon_rocket.simulator.machine import Machine
from teflon_rocket.simulator.policy import STRICT, Policy
from tests.rocket.packing import IntArray as IntArray
from tests.rocket.packing import cdiv, row_bytes
from tests.rocket.packing import pack_weights as pack_weights
from tests.rocket.packing import surfaces as surfaces

FEATURES, WEIGHTS, BIASES, OUTPUT, OPERAND, COMMANDS = (0x100000 * i for i in range(1, 7))
NOT_WRITTEN = {"S_STATUS", "OPERATION_ENABLE", "CLK_GATE", "MAC_GATING", "RDMA_S_STATUS"}


def nearest(value: Fraction, ties_up: bool) -> int:
    """The nearest integer, ties to even or up: exact, and not by shifting."""
    low = value.numerator // value.denominator
    rest = value - low
    if rest != Fraction(1, 2):
        return low + (rest > Fraction(1, 2))
    return low + 1 if ties_up else low + low % 2


def scaled(values: IntArray, multiplier: int, shift: int, ties_up: bool = False) -> IntArray:
    flat = [nearest(Fraction(int(v) * multiplier, 1 << shift), ties_up) for v in values.reshape(-1)]
    return np.array(flat, np.int64).reshape(values.shape)


@dataclass(frozen=True)
class Case:
    """One convolution; sizes as (rows, columns), `pad` as (top, left, bottom, right)."""

    size: tuple[int, int] = (5, 6)
    channels: int = 16
    kernels: int = 16
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    spread: tuple[int, int] = (1, 1)
    """Strides of a deconvolution; (1, 1) is none."""
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: int = 0
    depthwise: bool = False
    compensation: int = 3
    truncate: int = 0
    scale: int = 20000
    shift: int = 22
    offset: int = -5
    stream: int = 1
    """BRDMA_DATA_USE."""
    operand: bool = False
    seed: int = 0
    changes: dict[str, int] = field(default_factory=dict)
    """Fields to overwrite, "CNA.CONV_CON3.CONV_X_STRIDE" -> value; register alone: raw word."""

    @property
    def out(self) -> tuple[int, int]:
        def steps(i: int) -> int:
            room = (self.size[i] - 1) * self.spread[i] + 1 + self.pad[i] + self.pad[i + 2]
            return (room - (self.kernel[i] - 1) * self.dilation[i] - 1) // self.stride[i] + 1

        return steps(0), steps(1)

    @property
    def padded(self) -> int:
        """Input channels as the hardware counts them."""
        return cdiv(self.channels, 16) * 16

    @property
    def made(self) -> int:
        """Kernels in the weights."""
        return 1 if self.depthwise else cdiv(self.kernels, 2) * 2

    def with_(self, **changes: int) -> Case:
        """The same with fields overwritten; dots in names are written as two underscores."""
        return dataclasses.replace(
            self, changes=self.changes | {k.replace("__", "."): v for k, v in changes.items()}
        )


class Bench:
    """A case in device memory, with random content."""

    def __init__(self, case: Case, policy: Policy = STRICT) -> None:
        rng = np.random.default_rng(case.seed)
        self.case, self.memory = case, DeviceMemory()
        self.machine = Machine(RK3588, self.memory, policy)
        rows, columns = case.size
        out_rows, out_columns = case.out
        kernels = case.channels if case.depthwise else case.kernels
        self.x = rng.integers(-128, 128, (rows, columns, case.padded))
        self.w = rng.integers(-128, 128, (case.made, *case.kernel, case.padded))
        self.bias = rng.integers(-20000, 20000, kernels)
        self.ow = rng.integers(-200, 200, kernels)
        self.mul = rng.integers(0, 1 << 15, kernels)
        self.o = rng.integers(-128, 128, (out_rows, out_columns, cdiv(kernels, 16) * 16))
        self.out = np.full(cdiv(kernels, 16) * out_rows * out_columns * 16, 77, np.uint8)
        self._map(FEATURES, surfaces(self.x), "features")
        self._map(WEIGHTS, pack_weights(self.w, case.depthwise), "weights")
        self._map(BIASES, self.biases(), "biases")
        self._map(OPERAND, surfaces(self.o), "operand")
        self.memory.map(OUTPUT, self.out, "output")

    def _map(self, address: int, data: bytes, name: str) -> None:
        self.memory.map(address, bytearray(data), name)

    def biases(self) -> bytes:
        use, out = self.case.stream, b""
        if use == 1:
            return self.bias.astype("<i4").tobytes()
        if use == 4:
            return self.mul.astype("<i2").tobytes()
        wide = _wide(self.case)
        parts = [np.zeros(wide, np.int64) for _ in range(3)]
        for part, values in zip(parts, (self.bias, self.ow, self.mul), strict=True):
            part[: len(values)] = values
        for k in range(0, wide, 8):
            for part, kind in zip(parts, ("<i4", "<i2", "<u2"), strict=True):
                out += part[k : k + 8].astype(kind).tobytes()
        return out

    def run(self, words: list[int] | None = None, where: str = "task") -> IntArray:
        """Execute; the output as [row, column, channel]."""
        self.load(lists(self.case) if words is None else words)
        self.machine.run_task(COMMANDS, self.count, 0, where)
        rows, columns = self.case.out
        moved = self.out.view(np.int8).reshape(-1, rows, columns, 16).transpose(1, 2, 0, 3)
        return moved.reshape(rows, columns, -1)[..., : len(self.bias)].astype(np.int64)

    def load(self, words: list[int]) -> None:
        """Put a command list in its place."""
        if self.memory.find(COMMANDS) is not None:
            self.memory.unmap(COMMANDS)
        self.count = len(words)
        self._map(COMMANDS, np.array(words, "<u8").tobytes(), "commands")

    def sums(self) -> tuple[IntArray, IntArray]:
        """Accumulators and sums of inputs, [row, column, kernel], straight from the definition."""
        return convolve(self.case, self.x, self.w, len(self.bias))

    def values(self) -> IntArray:
        """What enters the output converter when only bias and compensation are on."""
        acc, q = self.sums()
        return scaled(acc + self.case.compensation * q, 1, self.case.truncate) + self.bias

    def converted(self, v: IntArray) -> IntArray:
        """The output converter, multiply first, ties to even."""
        case = self.case
        return np.clip(scaled(v, case.scale, case.shift) + case.offset, -128, 127)


def convolve(case: Case, x: IntArray, w: IntArray, kernels: int) -> tuple[IntArray, IntArray]:
    rows, columns = case.out
    top, left, bottom, right = case.pad
    reach = max(bottom, 0), max(right, 0)
    wide = np.full(
        ((len(x) - 1) * case.spread[0] + 1, (x.shape[1] - 1) * case.spread[1] + 1, x.shape[2]),
        case.pad_value,
    )
    for y, row in enumerate(x):
        for c, pixel in enumerate(row):
            wide[y * case.spread[0], c * case.spread[1]] = pixel
    grown = np.pad(
        wide, ((top, reach[0]), (left, reach[1]), (0, 0)), constant_values=case.pad_value
    )
    acc = np.zeros((rows, columns, kernels), np.int64)
    q = np.zeros_like(acc)
    for y in range(rows):
        for c in range(columns):
            for ty in range(case.kernel[0]):
                for tx in range(case.kernel[1]):
                    pixel = grown[
                        y * case.stride[0] + ty * case.dilation[0],
                        c * case.stride[1] + tx * case.dilation[1],
                    ]
                    if case.depthwise:
                        acc[y, c] += (pixel * w[0, ty, tx])[:kernels]
                        q[y, c] += pixel[:kernels]
                    else:
                        acc[y, c] += (w[:kernels, ty, tx] * pixel).sum(1)
                        q[y, c] += pixel.sum()
    return acc, q


def weight_row(case: Case) -> int:
    """Bytes of the weights of one kernel at one tap."""
    rest = case.padded % (64 if case.depthwise else 32)
    return case.padded - rest + (row_bytes(rest, case.depthwise) if rest else 0)


def _wide(case: Case) -> int:
    """Channels of the output with those that it is padded by."""
    return cdiv(case.channels, 64) * 64 if case.depthwise else cdiv(case.kernels, 32) * 32


def _registers(case: Case) -> list[Register]:
    rows, columns = case.size
    out_rows, out_columns = case.out
    real = case.channels if case.depthwise else case.kernels
    wide = _wide(case)
    each = case.kernel[0] * case.kernel[1] * weight_row(case)
    atoms, mode = case.padded // 16, 3 if case.depthwise else 0
    full, part = divmod(atoms, 4)
    entries = full * columns + (columns if part == 3 else cdiv(part * columns, 4))
    pixels, pad = out_rows * out_columns, case.pad_value & 0xFF
    groups = 4 if case.depthwise else 2
    return [
        CNA.CBUF_CON0(DATA_BANK=6, WEIGHT_BANK=6),
        CNA.CONV_CON1(CONV_MODE=mode, DECONV=int(case.spread != (1, 1))),
        CNA.CONV_CON2(FEATURE_GRAINS=52),
        CNA.CONV_CON3(
            CONV_X_STRIDE=case.stride[1],
            CONV_Y_STRIDE=case.stride[0],
            DECONV_X_STRIDE=case.spread[1] - 1,
            DECONV_Y_STRIDE=case.spread[0] - 1,
            ATROUS_X_DILATION=case.dilation[1],
            ATROUS_Y_DILATION=case.dilation[0],
        ),
        CNA.DATA_SIZE0(DATAIN_WIDTH=columns, DATAIN_HEIGHT=rows),
        CNA.DATA_SIZE1(DATAIN_CHANNEL_REAL=case.channels, DATAIN_CHANNEL=case.padded),
        CNA.DATA_SIZE2(DATAOUT_WIDTH=out_columns),
        CNA.DATA_SIZE3(DATAOUT_ATOMICS=pixels),
        CNA.WEIGHT_SIZE0(WEIGHT_BYTES=each * case.made),
        CNA.WEIGHT_SIZE1(WEIGHT_BYTES_PER_KERNEL=each),
        CNA.WEIGHT_SIZE2(
            WEIGHT_WIDTH=case.kernel[1], WEIGHT_HEIGHT=case.kernel[0], WEIGHT_KERNELS=case.made
        ),
        CNA.CBUF_CON1(DATA_ENTRIES=entries),
        CNA.CVT_CON0(DATA_SIGN=1, CVT_TYPE=1, CVT_BYPASS=1),
        CNA.PAD_CON0(PAD_LEFT=case.pad[1], PAD_TOP=case.pad[0]),
        CNA.PAD_CON1(PAD_VALUE=pad * 0x0101),
        CNA.FEATURE_DATA_ADDR(FEATURE_BASE_ADDR=FEATURES),
        CNA.DMA_CON1(LINE_STRIDE=4 * columns),
        CNA.DMA_CON2(SURF_STRIDE=rows * columns - 4 * columns),
        CNA.FC_DATA_SIZE0(DMA_WIDTH=columns, DMA_HEIGHT=rows),
        CNA.FC_DATA_SIZE1(DMA_CHANNEL=case.padded),
        CNA.DCOMP_ADDR0(DECOMPRESS_ADDR0=WEIGHTS),
        CORE.MISC_CFG(QD_EN=1, DW_EN=int(case.depthwise)),
        CORE.DATAOUT_SIZE_0(DATAOUT_WIDTH=out_columns, DATAOUT_HEIGHT=out_rows),
        CORE.DATAOUT_SIZE_1(DATAOUT_CHANNEL=wide),
        CORE.CLIP_TRUNCATE(CLIP_TRUNCATE=case.truncate),
        DPU.S_POINTER(POINTER_PP_EN=1, EXECUTER_PP_EN=1, POINTER_PP_MODE=1),
        DPU.FEATURE_MODE_CFG(OUTPUT_MODE=2, BURST_LEN=15, CONV_MODE=mode),
        DPU.DST_BASE_ADDR(DST_BASE_ADDR=OUTPUT),
        DPU.DST_SURF_STRIDE(DST_SURF_STRIDE=pixels),
        DPU.DATA_CUBE_WIDTH(WIDTH=out_columns),
        DPU.DATA_CUBE_HEIGHT(HEIGHT=out_rows),
        DPU.DATA_CUBE_CHANNEL(CHANNEL=wide, ORIG_CHANNEL=real),
        DPU.BS_CFG(
            BS_ALU_ALGO=2,
            BS_ALU_SRC=case.stream & 1,
            BS_RELU_BYPASS=1,
            BS_MUL_BYPASS=int(not case.stream & 4),
        ),
        DPU.BS_MUL_CFG(BS_MUL_SRC=case.stream >> 2 & 1),
        DPU.BS_OW_CFG(
            OW_SRC=case.stream >> 1 & 1, SIZE_E_0=groups, SIZE_E_1=groups, SIZE_E_2=groups
        ),
        DPU.BS_OW_OP(OW_OP=case.compensation),
        DPU.WDMA_SIZE_0(CHANNEL_WDMA=wide),
        DPU.WDMA_SIZE_1(WIDTH_WDMA=out_columns, HEIGHT_WDMA=out_rows),
        DPU.BN_CFG(BN_BYPASS=1, BN_ALU_BYPASS=1, BN_MUL_BYPASS=1, BN_RELU_BYPASS=1),
        _elementwise(case),
        DPU.EW_CVT_SCALE_VALUE(EW_OP_CVT_SCALE=1),
        DPU.OUT_CVT_OFFSET(OUT_CVT_OFFSET=case.offset),
        DPU.OUT_CVT_SCALE(OUT_CVT_SCALE=case.scale),
        DPU.OUT_CVT_SHIFT(OUT_CVT_SHIFT=case.shift),
        DPU.SURFACE_ADD(SURF_ADD=groups * pixels),
        DPU_RDMA.RDMA_S_POINTER(POINTER_PP_EN=1, EXECUTER_PP_EN=1, POINTER_PP_MODE=1),
        DPU_RDMA.RDMA_DATA_CUBE_WIDTH(WIDTH=out_columns),
        DPU_RDMA.RDMA_DATA_CUBE_HEIGHT(HEIGHT=out_rows),
        DPU_RDMA.RDMA_DATA_CUBE_CHANNEL(CHANNEL=wide),
        DPU_RDMA.RDMA_BRDMA_CFG(BRDMA_DATA_USE=case.stream),
        DPU_RDMA.RDMA_BS_BASE_ADDR(BS_BASE_ADDR=BIASES),
        DPU_RDMA.RDMA_WEIGHT(M_WEIGHT=1, B_WEIGHT=1, N_WEIGHT=1, E_WEIGHT=1),
        *_readers(case, pixels, mode),
    ]


def _elementwise(case: Case) -> Register:
    if not case.operand:
        return DPU.EW_CFG(
            EW_BYPASS=1, EW_OP_BYPASS=1, EW_LUT_BYPASS=1, EW_OP_CVT_BYPASS=1, EW_RELU_BYPASS=1
        )
    return DPU.EW_CFG(
        EW_OP_SRC=1,
        EW_LUT_BYPASS=1,
        EW_RELU_BYPASS=1,
        EW_ALU_ALGO=2,
        EDATA_SIZE=1,
        EW_DATA_MODE=1,
        EW_CVT_TYPE=1,
    )


def _readers(case: Case, pixels: int, mode: int) -> list[Register]:
    if not case.operand:
        return [
            DPU_RDMA.RDMA_ERDMA_CFG(ERDMA_DISABLE=1),
            DPU_RDMA.RDMA_FEATURE_MODE_CFG(BURST_LEN=15, MRDMA_DISABLE=1, CONV_MODE=mode),
        ]
    stride = max(pixels, 12)
    return [
        DPU_RDMA.RDMA_ERDMA_CFG(ERDMA_DATA_MODE=1, ERDMA_DATA_SIZE=1),
        DPU_RDMA.RDMA_FEATURE_MODE_CFG(BURST_LEN=15, COMB_USE=5, CONV_MODE=mode),
        DPU_RDMA.RDMA_SRC_BASE_ADDR(SRC_BASE_ADDR=OPERAND),
        DPU_RDMA.RDMA_EW_BASE_ADDR(EW_BASE_ADDR=OPERAND + 16 * pixels),
        DPU_RDMA.RDMA_EW_SURF_STRIDE(EW_SURF_STRIDE=stride),
        DPU_RDMA.RDMA_SURF_NOTCH(SURF_NOTCH_ADDR=stride),
        DPU_RDMA.RDMA_EW_SURF_NOTCH(EW_SURF_NOTCH=stride),
    ]


def lists(case: Case) -> list[int]:
    """The command list of a case: every register of the four blocks, then the trailer."""
    values: dict[type[Register], Any] = {
        r: r()
        for block in (CNA, CORE, DPU, DPU_RDMA)
        for r in block.registers
        if r.__name__.removeprefix("RDMA_") not in NOT_WRITTEN
        and not (block in (CNA, CORE) and r.__name__ == "S_POINTER")
    }
    values |= {type(r): r for r in _registers(case)}
    titles = {r.title(): r for r in REGISTERS}
    for name, value in case.changes.items():
        if name in titles:
            values[titles[name]] = titles[name].raw(value)
        else:
            title, _, changed = name.rpartition(".")
            register = titles[title]
            values[register] = type(values[register])(**vars(values[register]) | {changed: value})
    words = [command(register) for register in values.values()]
    return [*words, 0, 0, PREPARE_WORD, enable_command(0x1D)]


def write(block: int, offset: int, value: int) -> int:
    """Any register write as a command word."""
    return (block + WRITE) << 48 | value << 16 | offset
