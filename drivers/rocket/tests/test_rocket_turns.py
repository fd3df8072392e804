# Ref: docs/hardware/rocket_vendor.md §2 (passes that turn)
"""Passes that turn a map: rows against columns, the bytes of pixels against the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_common.registers import Register
from teflon_rocket.chips import RK3588
from teflon_rocket.registers import (
    DPU,
    DPU_RDMA,
    PREPARE_WORD,
    REGISTERS,
    command,
    enable_command,
)
from teflon_rocket.simulator.machine import Machine

SOURCE, TARGET, COMMANDS = 0x100000, 0x200000, 0x300000
NOT_WRITTEN = {"S_STATUS", "OPERATION_ENABLE"}
Changes = dict[str, int]


def registers(surfaces: int, height: int, width: int) -> list[Register]:
    """A pass that moves a map of 16-bit elements; where it goes is left open."""
    channels, one = 8 * surfaces, {"POINTER_PP_EN": 1, "EXECUTER_PP_EN": 1, "POINTER_PP_MODE": 1}
    return [
        DPU.S_POINTER(**one),
        DPU.FEATURE_MODE_CFG(FLYING_MODE=1, OUTPUT_MODE=2, BURST_LEN=15),
        DPU.DATA_FORMAT(PROC_PRECISION=1, IN_PRECISION=1, OUT_PRECISION=1),
        DPU.DST_BASE_ADDR(DST_BASE_ADDR=TARGET),
        DPU.DATA_CUBE_WIDTH(WIDTH=width),
        DPU.DATA_CUBE_HEIGHT(HEIGHT=height),
        DPU.DATA_CUBE_CHANNEL(CHANNEL=channels, ORIG_CHANNEL=channels),
        DPU.BS_CFG(BS_BYPASS=1, BS_ALU_BYPASS=1, BS_MUL_BYPASS=1, BS_RELU_BYPASS=1),
        DPU.BN_CFG(BN_BYPASS=1, BN_ALU_BYPASS=1, BN_MUL_BYPASS=1, BN_RELU_BYPASS=1),
        DPU.EW_CFG(
            EW_BYPASS=1, EW_OP_BYPASS=1, EW_LUT_BYPASS=1, EW_OP_CVT_BYPASS=1, EW_RELU_BYPASS=1
        ),
        DPU.EW_CVT_SCALE_VALUE(EW_OP_CVT_SCALE=1),
        DPU.OUT_CVT_SCALE(OUT_CVT_SCALE=1),
        DPU_RDMA.RDMA_S_POINTER(**one),
        DPU_RDMA.RDMA_DATA_CUBE_WIDTH(WIDTH=width),
        DPU_RDMA.RDMA_DATA_CUBE_HEIGHT(HEIGHT=height),
        DPU_RDMA.RDMA_DATA_CUBE_CHANNEL(CHANNEL=channels),
        DPU_RDMA.RDMA_SRC_BASE_ADDR(SRC_BASE_ADDR=SOURCE),
        DPU_RDMA.RDMA_ERDMA_CFG(ERDMA_DISABLE=1),
        DPU_RDMA.RDMA_FEATURE_MODE_CFG(
            FLYING_MODE=1, PROC_PRECISION=1, BURST_LEN=15, IN_PRECISION=1
        ),
        DPU_RDMA.RDMA_WEIGHT(M_WEIGHT=1, B_WEIGHT=1, N_WEIGHT=1, E_WEIGHT=1),
        # surfaces follow one another, each of whole 64 bytes
        DPU_RDMA.RDMA_SURF_NOTCH(SURF_NOTCH_ADDR=-width * height % 4),
    ]


def pixels_turned(surfaces: int, height: int, width: int, step: int) -> list[Register]:
    """Columns go `step` atoms apart, and rows beside each other."""
    elements = dict.fromkeys(("SIZE_E_0", "SIZE_E_1", "SIZE_E_2"), width)
    return [
        DPU.FEATURE_MODE_CFG(FLYING_MODE=1, OUTPUT_MODE=2, BURST_LEN=15, TP_EN=1),
        DPU.DST_SURF_STRIDE(DST_SURF_STRIDE=step),
        DPU.SURFACE_ADD(SURF_ADD=width * step),
        DPU.DATA_CUBE_NOTCH_ADDR(
            NOTCH_ADDR_0=width * step - height, NOTCH_ADDR_1=width * step - height
        ),
        DPU.BS_OW_CFG(OD_BYPASS=1, **elements),
        DPU.WDMA_SIZE_0(CHANNEL_WDMA=8 * surfaces, TP_PRECISION=1),
        DPU.WDMA_SIZE_1(WIDTH_WDMA=height, HEIGHT_WDMA=surfaces),
    ]


def bytes_turned(surfaces: int, pixels: int, step: int, surface: int) -> list[Register]:
    """Planes of sixteen pixels go `step` atoms apart, the next sixteen pixels `surface` atoms."""
    parts = surfaces * pixels // 16
    return [
        DPU.FEATURE_MODE_CFG(FLYING_MODE=1, OUTPUT_MODE=2, BURST_LEN=15, SURF_LEN=16 * parts),
        DPU.DST_SURF_STRIDE(DST_SURF_STRIDE=step),
        DPU.SURFACE_ADD(SURF_ADD=surface),
        DPU.DATA_CUBE_NOTCH_ADDR(NOTCH_ADDR_0=8 * step - 1, NOTCH_ADDR_1=8 * step - 1),
        DPU.BS_OW_CFG(OD_BYPASS=1, TP_ORG_EN=1, SIZE_E_0=8, SIZE_E_1=8, SIZE_E_2=8),
        DPU.WDMA_SIZE_0(CHANNEL_WDMA=8 * surfaces, SIZE_C_WDMA=parts - 1),
        DPU.WDMA_SIZE_1(WIDTH_WDMA=1, HEIGHT_WDMA=2),
    ]


def run(
    shape: tuple[int, int, int], more: list[Register], changes: Changes | None = None
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """The map as [surface, row, column, byte], and the memory behind the target."""
    surfaces, height, width = shape
    values: dict[type[Register], Any] = {
        r: r()
        for block in (DPU, DPU_RDMA)
        for r in block.registers
        if r.__name__.removeprefix("RDMA_") not in NOT_WRITTEN
    }
    values |= {type(r): r for r in (*registers(*shape), *more)}
    titles = {r.title(): r for r in REGISTERS}
    for name, value in (changes or {}).items():
        title, _, field = name.rpartition(".")
        old = values[titles[title]]
        values[titles[title]] = type(old)(**vars(old) | {field: value})
    words = [*map(command, values.values()), 0, PREPARE_WORD, enable_command(0x18)]
    memory, pitch = DeviceMemory(), -(-width * height // 4) * 4
    source = np.random.default_rng(width).integers(-128, 128, (surfaces, pitch, 16), np.int8)
    target = np.full(1 << 16, 77, np.int8)
    memory.map(SOURCE, source.view(np.uint8).reshape(-1), "source")
    memory.map(TARGET, target.view(np.uint8), "target")
    memory.map(COMMANDS, np.array(words, "<u8").view(np.uint8), "commands")
    Machine(RK3588, memory).run_task(COMMANDS, len(words))
    return source[:, : width * height].reshape(surfaces, height, width, 16), target


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 8), st.integers(0, 3))
def test_rows_become_columns(surfaces: int, height: int, width: int, gap: int) -> None:
    step = height + gap
    source, target = run((surfaces, height, width), pixels_turned(surfaces, height, width, step))
    out = target[: surfaces * width * step * 16].reshape(surfaces, width, step, 16)
    assert np.array_equal(out[:, :, :height], source.transpose(0, 2, 1, 3))
    assert np.all(out[:, :, height:] == 77)
    assert np.all(target[out.size :] == 77)


@given(st.integers(1, 6), st.integers(0, 2))
def test_bytes_of_a_surface_become_planes(parts: int, gap: int) -> None:
    """Planes of all pixels, one after the other: NCHW of a surface."""
    step = parts + gap
    source, target = run((1, parts, 16), bytes_turned(1, 16 * parts, step, 1))
    planes = target[: 16 * step * 16].reshape(16, step * 16)
    assert np.array_equal(planes[:, : 16 * parts], source.reshape(-1, 16).T)
    assert np.all(planes[:, 16 * parts :] == 77)


@given(st.integers(1, 6), st.integers(1, 5))
def test_pixels_become_channels(surfaces: int, parts: int) -> None:
    """Sixteen rows of bytes become surfaces; sixteen pixels of a surface become a pixel of it."""
    source, target = run((surfaces, 16, 1), bytes_turned(surfaces, 16, 1, 16))
    out = target[: surfaces * 256].reshape(surfaces, 16, 16)
    assert np.array_equal(out, source[:, :, 0].transpose(0, 2, 1))
    source, target = run((1, 16 * parts, 1), bytes_turned(1, 16 * parts, 1, 20))
    wide = target[: parts * 320].reshape(parts, 20, 16)
    assert np.array_equal(wide[:, :16], source.reshape(parts, 16, 16).transpose(0, 2, 1))
    assert np.all(wide[:, 16:] == 77)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"DPU.WDMA_SIZE_0.TP_PRECISION": 0}, r"FEATURE_MODE_CFG.*, must have TP_EN and TP_PRE"),
        ({"DPU.BS_OW_CFG.TP_ORG_EN": 1}, r"FEATURE_MODE_CFG.*or TP_ORG_EN alone"),
        ({"DPU.FEATURE_MODE_CFG.SURF_LEN": 16}, r"SURF_LEN is 16, must be 0 in a pass that turns"),
        ({"DPU.BS_OW_CFG.SIZE_E_1": 4}, r"SIZE_E_1 is 4, must be 3 in a pass that turns"),
        ({"DPU.SURFACE_ADD.SURF_ADD": 20}, r"SURF_ADD is 20, must be 15 in a pass that turns"),
        ({"DPU.WDMA_SIZE_1.WIDTH_WDMA": 3}, r"WIDTH_WDMA is 3, must be 5 in a pass that turns"),
        ({"DPU.FEATURE_MODE_CFG.RGP_TYPE": 1}, r"RGP_TYPE is stored as #1, is not modelled"),
    ],
)
def test_pixels_are_turned_in_one_way(changes: Changes, text: str) -> None:
    with pytest.raises(SimulatorFault, match=text):
        run((2, 5, 3), pixels_turned(2, 5, 3, 5), changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"DPU.WDMA_SIZE_0.SIZE_C_WDMA": 3}, r"SIZE_C_WDMA is 3, must be 1 in a pass that turns"),
        ({"DPU.FEATURE_MODE_CFG.SURF_LEN": 16}, r"SURF_LEN is 16, must be 32 in a pass that tur"),
        (
            {
                "DPU.DATA_CUBE_NOTCH_ADDR.NOTCH_ADDR_0": 3,
                "DPU.DATA_CUBE_NOTCH_ADDR.NOTCH_ADDR_1": 3,
            },
            r"NOTCH_ADDR_0 is 3, must be 15 in a pass that turns",
        ),
        ({"DPU.DATA_FORMAT.OUT_PRECISION": 0}, r"DATA_FORMAT.*must be int8 in all three precisi"),
        ({"DPU.OUT_CVT_SCALE.OUT_CVT_SCALE": 2}, r"must leave them as they are"),
    ],
)
def test_bytes_are_turned_in_one_way(changes: Changes, text: str) -> None:
    with pytest.raises(SimulatorFault, match=text):
        run((1, 2, 16), bytes_turned(1, 32, 2, 1), changes)


def test_bytes_of_other_sizes_are_not_turned() -> None:
    for shape, pixels in (((1, 3, 15), 45), ((2, 2, 16), 32)):
        with pytest.raises(SimulatorFault, match=r"RDMA_DATA_CUBE_WIDTH: turns . surfaces of "):
            run(shape, bytes_turned(shape[0], pixels, 2, 1))


def test_planes_may_not_lie_over_each_other() -> None:
    with pytest.raises(SimulatorFault, match="pixels would be written over others"):
        run((1, 32, 1), bytes_turned(1, 32, 1, 2))
