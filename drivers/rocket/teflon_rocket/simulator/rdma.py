# Ref: docs/hardware/rocket.md §7.1 words 109-125, §8.4, §8.5, §8.9
# Ref: docs/hardware/rocket_vendor.md §2 (fused ConvMul)
"""DPU_RDMA behind a convolution: the per-channel operands and the element-wise operand."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.registers import DPU_RDMA

from .cube import ATOM, aligned
from .dpu import check_pointer
from .operands import Stream, bn_stream, bs_stream
from .registerfile import Fields, RegisterFile

FIELDS: Fields = {
    DPU_RDMA.RDMA_S_POINTER: "POINTER_PP_EN EXECUTER_PP_EN POINTER_PP_MODE POINTER_PP_CLEAR"
    " EXECUTER_PP_CLEAR",
    DPU_RDMA.RDMA_DATA_CUBE_WIDTH: "WIDTH",
    DPU_RDMA.RDMA_DATA_CUBE_HEIGHT: "HEIGHT",
    DPU_RDMA.RDMA_DATA_CUBE_CHANNEL: "CHANNEL",
    DPU_RDMA.RDMA_SRC_BASE_ADDR: "SRC_BASE_ADDR",
    DPU_RDMA.RDMA_BRDMA_CFG: "BRDMA_DATA_USE",
    DPU_RDMA.RDMA_BS_BASE_ADDR: "BS_BASE_ADDR",
    DPU_RDMA.RDMA_NRDMA_CFG: "NRDMA_DATA_USE",
    DPU_RDMA.RDMA_BN_BASE_ADDR: "BN_BASE_ADDR",
    DPU_RDMA.RDMA_ERDMA_CFG: "ERDMA_DISABLE ERDMA_DATA_SIZE ERDMA_DATA_MODE",
    DPU_RDMA.RDMA_EW_BASE_ADDR: "EW_BASE_ADDR",
    DPU_RDMA.RDMA_EW_SURF_STRIDE: "EW_SURF_STRIDE",
    DPU_RDMA.RDMA_FEATURE_MODE_CFG: "CONV_MODE MRDMA_DISABLE COMB_USE BURST_LEN",
    DPU_RDMA.RDMA_SRC_DMA_CFG: "",
    DPU_RDMA.RDMA_SURF_NOTCH: "SURF_NOTCH_ADDR",
    DPU_RDMA.RDMA_PAD_CFG: "",
    DPU_RDMA.RDMA_WEIGHT: "M_WEIGHT B_WEIGHT N_WEIGHT E_WEIGHT",  # arbitration
    DPU_RDMA.RDMA_EW_SURF_NOTCH: "EW_SURF_NOTCH",
}

_SHARED = 5
"""COMB_USE of Mesa's additions: both readers share one tensor, surface by surface in turn."""
_ODD_NOTCH = 15
"""What Mesa writes for surfaces of width 3, found by observation."""


@dataclass(frozen=True)
class Operand:
    """The element-wise operand in memory: int8 surfaces like the output."""

    address: int
    surface_bytes: int


@dataclass(frozen=True)
class RdmaTask:
    """What the readers do in one task."""

    width: int
    height: int
    channels: int
    depthwise: bool
    bs: Stream
    bn: Stream
    operand: Operand | None

    def fetch_streams(self, memory: DeviceMemory) -> tuple[bytes, bytes]:
        """Return the bytes that BRDMA and NRDMA read."""
        return self.bs.fetch(memory), self.bn.fetch(memory)


def plan(registers: RegisterFile, input_width: int) -> RdmaTask:
    """Read the readers' registers; `input_width` decides which notch is right."""
    mode = registers[DPU_RDMA.RDMA_FEATURE_MODE_CFG]
    check_pointer(registers[DPU_RDMA.RDMA_S_POINTER].pack(), DPU_RDMA.RDMA_S_POINTER.title())
    return RdmaTask(
        registers[DPU_RDMA.RDMA_DATA_CUBE_WIDTH].WIDTH,
        registers[DPU_RDMA.RDMA_DATA_CUBE_HEIGHT].HEIGHT,
        registers[DPU_RDMA.RDMA_DATA_CUBE_CHANNEL].CHANNEL,
        mode.CONV_MODE == 3,
        bs_stream(registers),
        bn_stream(registers),
        _operand(registers, input_width),
    )


def _operand(registers: RegisterFile, input_width: int) -> Operand | None:
    mode, reader = registers[DPU_RDMA.RDMA_FEATURE_MODE_CFG], registers[DPU_RDMA.RDMA_ERDMA_CFG]
    if mode.COMB_USE == 0 and not mode.MRDMA_DISABLE:
        raise SimulatorFault(
            "DPU_RDMA.RDMA_FEATURE_MODE_CFG: MRDMA_DISABLE is 0 with COMB_USE 0 and FLYING_MODE 0,"
            " must be 1 (the job never finishes)"
        )
    if reader.ERDMA_DISABLE:
        if mode.COMB_USE:
            raise SimulatorFault(
                f"DPU_RDMA.RDMA_FEATURE_MODE_CFG: COMB_USE is {mode.COMB_USE} with ERDMA_DISABLE,"
                " must be 0"
            )
        return None
    if mode.COMB_USE != _SHARED or mode.MRDMA_DISABLE:
        raise SimulatorFault(
            f"DPU_RDMA.RDMA_FEATURE_MODE_CFG: COMB_USE is {mode.COMB_USE}, MRDMA_DISABLE"
            f" {mode.MRDMA_DISABLE} with an element-wise operand, must be {_SHARED} and 0 (others"
            " are not modelled)"
        )
    if (reader.ERDMA_DATA_SIZE, reader.ERDMA_DATA_MODE) != (1, 1):
        raise SimulatorFault(
            f"{reader}: only 8-bit operands per pixel are modelled, must be"
            " ERDMA_DATA_SIZE=1 ERDMA_DATA_MODE=1"
        )
    return _surfaces(registers, input_width)


def _surfaces(registers: RegisterFile, input_width: int) -> Operand:
    """Return the operand: even surfaces begin at SRC_BASE_ADDR, odd ones at EW_BASE_ADDR."""
    source = registers[DPU_RDMA.RDMA_SRC_BASE_ADDR].SRC_BASE_ADDR
    second = registers[DPU_RDMA.RDMA_EW_BASE_ADDR].EW_BASE_ADDR
    aligned(source, DPU_RDMA.RDMA_SRC_BASE_ADDR.title())
    aligned(second, DPU_RDMA.RDMA_EW_BASE_ADDR.title())
    pixels = (second - source) // ATOM
    stride = registers[DPU_RDMA.RDMA_EW_SURF_STRIDE].EW_SURF_STRIDE
    if second <= source or stride != max(pixels, 12):
        raise SimulatorFault(
            f"DPU_RDMA.RDMA_EW_SURF_STRIDE: is {stride} pixels, must be the {pixels} from"
            " SRC_BASE_ADDR to EW_BASE_ADDR and at least 12"
        )
    read = (
        registers[DPU_RDMA.RDMA_DATA_CUBE_WIDTH].WIDTH
        * registers[DPU_RDMA.RDMA_DATA_CUBE_HEIGHT].HEIGHT
    )
    rule = {stride + pixels - read} | ({_ODD_NOTCH} if input_width == 3 else set())
    for notch, register in (
        (registers[DPU_RDMA.RDMA_SURF_NOTCH].SURF_NOTCH_ADDR, DPU_RDMA.RDMA_SURF_NOTCH),
        (registers[DPU_RDMA.RDMA_EW_SURF_NOTCH].EW_SURF_NOTCH, DPU_RDMA.RDMA_EW_SURF_NOTCH),
    ):
        if notch not in rule:
            raise SimulatorFault(
                f"{register.title()}: is {notch} pixels, must be"
                f" {' or '.join(map(str, sorted(rule)))} to reach the surface after the next"
            )
    return Operand(source, second - source)


def fetch_operand(
    operand: Operand, surfaces: int, width: int, height: int, memory: DeviceMemory
) -> NDArray[np.int8]:
    """Return the element-wise operand as int8 [surface, row, column, 16], a view of memory."""
    return memory.strided(
        operand.address,
        (surfaces, height, width, ATOM),
        (operand.surface_bytes, width * ATOM, ATOM, 1),
        np.int8,
        "DPU_RDMA.RDMA_SRC_BASE_ADDR",
    )
