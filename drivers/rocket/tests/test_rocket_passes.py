"""Passes of the DPU alone: copies, arithmetic on bytes, repeated pixels, against loops."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.errors import SimulatorFault
from teflon_rocket import work
from teflon_rocket.chips import RK3588
from teflon_rocket.simulator.policy import LENIENT, Breach
from tests.rocket.lists import scaled
from tests.rocket.pass_lists import (
    COMMANDS,
    SOURCE,
    IntArray,
    PassBench,
    PassCase,
    Place,
    pass_list,
)


@st.composite
def places(draw: st.DrawFn, size: tuple[int, int], surfaces: int) -> Place:
    """A part of a larger map whose surfaces are whole 64 bytes."""
    rows, columns = size
    wide, high = columns + draw(st.integers(0, 5)), rows + draw(st.integers(0, 3))
    at = draw(st.integers(0, high - rows)) * wide + draw(st.integers(0, wide - columns))
    return Place(at * 16, -(-wide * high // 4) * 64, wide * 16)


@st.composite
def copies(draw: st.DrawFn) -> PassCase:
    size, surfaces = draw(st.tuples(st.integers(1, 6), st.integers(1, 6))), draw(st.integers(1, 3))
    read, write = draw(places(size, surfaces)), draw(places(size, surfaces))
    return PassCase(size, surfaces, read, write, seed=draw(st.integers(0, 99)))


@settings(max_examples=80)
@given(copies())
def test_parts_of_maps_are_copied(case: PassCase) -> None:
    bench = PassBench(case)
    np.testing.assert_array_equal(bench.run(), bench.x)
    assert bench.untouched()


@pytest.mark.parametrize("wide", [1, 2])
def test_pixels_as_surfaces_turn_a_map(wide: int) -> None:
    """Columns are read as surfaces, one pixel apart: rows and columns change places."""
    rows = columns = 5
    read = Place(0, 16, columns * 16)
    write = Place(0, rows * 16, 16)
    case = PassCase((rows, 1), columns, read, write, wide=wide)
    bench = PassBench(case)
    bench.run()
    have = bench.bytes[0x200000][: rows * columns * 16].reshape(columns, rows, 16)
    want = bench.bytes[SOURCE][: rows * columns * 16].reshape(rows, columns, 16)
    np.testing.assert_array_equal(have, want.transpose(1, 0, 2))


@pytest.mark.parametrize("times", range(2, 9))
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 5)])
def test_pixels_are_repeated(times: int, size: tuple[int, int]) -> None:
    bench = PassBench(PassCase(size, 1, repeat=times))
    np.testing.assert_array_equal(bench.run(), bench.x.repeat(times, 0).repeat(times, 1))
    assert bench.untouched()


def test_a_pass_may_write_each_pixel_where_it_was() -> None:
    case = PassCase().with_(**BS_ON, DPU__DST_BASE_ADDR=SOURCE, DPU__BS_ALU_CFG=7)
    bench = PassBench(case)
    want = np.clip(bench.x + 7, -128, 127)
    bench.run()
    np.testing.assert_array_equal(bench.x, want)


BS_ON = {
    "DPU__BS_CFG__BS_BYPASS": 0,
    "DPU__BS_CFG__BS_ALU_BYPASS": 0,
    "DPU__BS_CFG__BS_ALU_ALGO": 2,
}
BS_MUL = {"DPU__BS_CFG__BS_BYPASS": 0, "DPU__BS_CFG__BS_MUL_BYPASS": 0}
BN_ON = {
    "DPU__BN_CFG__BN_BYPASS": 0,
    "DPU__BN_CFG__BN_ALU_BYPASS": 0,
    "DPU__BN_CFG__BN_ALU_ALGO": 2,
}
BN_MUL = {"DPU__BN_CFG__BN_BYPASS": 0, "DPU__BN_CFG__BN_MUL_BYPASS": 0}
OUT = {
    "DPU__OUT_CVT_SCALE": 22000,
    "DPU__OUT_CVT_SHIFT__OUT_CVT_SHIFT": 22,
    "DPU__OUT_CVT_OFFSET__OUT_CVT_OFFSET": -9,
}


def out(v: IntArray, scale: int = 22000, shift: int = 22) -> IntArray:
    return np.clip(scaled(v, scale, shift) - 9, -128, 127)


def halves(v: IntArray, positive: IntArray, negative: IntArray) -> IntArray:
    return np.where(v < 0, negative, positive)


def test_first_stage_adds_multiplies_and_shifts() -> None:
    """(a - 5) * -20000 >> 3, and the converter with a negative factor."""
    case = PassCase().with_(
        **(BS_ON | BS_MUL), **OUT,
        DPU__BS_ALU_CFG__BS_ALU_OPERAND=-5, DPU__BS_MUL_CFG__BS_MUL_OPERAND=-20000,
        DPU__BS_MUL_CFG__BS_MUL_SHIFT_VALUE=3, DPU__DATA_FORMAT__BS_MUL_SHIFT_VALUE_NEG=3,
        DPU__OUT_CVT_SCALE__OUT_CVT_SCALE=-777 & 0xFFFF,
    )  # fmt: skip
    bench = PassBench(case)
    np.testing.assert_array_equal(bench.run(), out(scaled(bench.x - 5, -20000, 3), -777))


def test_constants_per_channel() -> None:
    """A factor of BRDMA and a number of NRDMA for each channel."""
    case = PassCase(bs_use=4, bn_use=1, surfaces=3).with_(
        **BS_MUL, **BN_ON, **OUT, DPU__BS_MUL_CFG__BS_MUL_SRC=1, DPU__BN_CFG__BN_ALU_SRC=1
    )
    bench = PassBench(case)
    np.testing.assert_array_equal(bench.run(), out(bench.x * bench.factors + bench.added))


@pytest.mark.parametrize("streamed", [0, 1])
def test_negative_values_alone_are_multiplied(streamed: int) -> None:
    case = PassCase(bn_use=4 * streamed).with_(
        **BN_MUL, DPU__BN_CFG__BN_MUL_PRELU=1, DPU__BN_MUL_CFG__BN_MUL_SRC=streamed,
        DPU__BN_MUL_CFG__BN_MUL_OPERAND=-16384 * (1 - streamed),
        DPU__DATA_FORMAT__BN_MUL_SHIFT_VALUE_NEG=14,
    )  # fmt: skip
    bench = PassBench(case)
    factors = bench.factors if streamed else np.full(32, -16384)
    changed = np.stack([scaled(bench.x[..., k], int(f), 14) for k, f in enumerate(factors)], -1)
    want = np.clip(halves(bench.x, bench.x, changed), -128, 127)
    np.testing.assert_array_equal(bench.run(), want)


def test_shifts_of_both_signs_and_a_ceiling() -> None:
    case = PassCase().with_(
        **BS_MUL, **BN_MUL, **OUT,
        DPU__BS_MUL_CFG__BS_MUL_OPERAND=16384, DPU__DATA_FORMAT__BS_MUL_SHIFT_VALUE_NEG=14,
        DPU__BN_CFG__BN_MUL_PRELU=1, DPU__BN_MUL_CFG__BN_MUL_OPERAND=1638,
    )  # fmt: skip
    bench = PassBench(case)
    want = out(halves(bench.x, bench.x * 16384, bench.x * 1638))
    np.testing.assert_array_equal(bench.run(), want)
    clamped = case.with_(
        DPU__BN_CFG__BN_MUL_PRELU=0, DPU__BN_CFG__BN_RELU_BYPASS=0, DPU__BN_CFG__BN_RELUX_EN=1,
        DPU__BN_MUL_CFG__BN_MUL_OPERAND=1, DPU__BN_RELUX_CMP_VALUE__BN_RELUX_CMP_DAT=999999,
    )  # fmt: skip
    bench = PassBench(clamped)
    np.testing.assert_array_equal(bench.run(), out(np.clip(bench.x * 16384, 0, 999999)))


OPERATIONS: dict[str, tuple[dict[str, int], Any]] = {
    "add": ({"DPU__EW_CFG__EW_ALU_ALGO": 2}, np.add),
    "subtract": ({"DPU__EW_CFG__EW_ALU_ALGO": 4}, np.subtract),
    "max": ({"DPU__EW_CFG__EW_ALU_ALGO": 0}, np.maximum),
    "min": ({"DPU__EW_CFG__EW_ALU_ALGO": 1}, np.minimum),
    "multiply": ({"DPU__EW_CFG__EW_ALU_ALGO": 0, "DPU__EW_CFG__EW_OP_TYPE": 1}, np.multiply),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("other", ["pixel", "channel"])
@pytest.mark.parametrize("relu", [0, 1])
def test_two_operands(name: str, other: str, relu: int) -> None:
    changes, operation = OPERATIONS[name]
    case = PassCase(other=other, surfaces=3).with_(
        **(BS_ON | BS_MUL), **OUT, **changes,
        DPU__BS_ALU_CFG__BS_ALU_OPERAND=12, DPU__BS_MUL_CFG__BS_MUL_OPERAND=5000,
        DPU__EW_CFG__EW_RELU_BYPASS=1 - relu,
        DPU__EW_CVT_OFFSET_VALUE__EW_OP_CVT_OFFSET=15,
        DPU__EW_CVT_SCALE_VALUE__EW_OP_CVT_SCALE=-26804 & 0xFFFF,
        DPU__EW_CVT_SCALE_VALUE__EW_OP_CVT_SHIFT=2 if name != "multiply" else 13,
    )  # fmt: skip
    bench = PassBench(case)
    o = scaled(bench.o + 15, -26804, 2 if name != "multiply" else 13)
    v = operation((bench.x + 12) * 5000, o)
    np.testing.assert_array_equal(bench.run(), out(np.maximum(v, 0) if relu else v))


def test_an_operand_and_a_factor_per_channel() -> None:
    case = PassCase(other="pixel", bs_use=4, size=(5, 7)).with_(
        **BS_MUL, **OUT, DPU__BS_MUL_CFG__BS_MUL_SRC=1
    )
    bench = PassBench(case)
    np.testing.assert_array_equal(bench.run(), out(bench.x * bench.factors + bench.o))


def test_the_result_follows_the_stream() -> None:
    """What was prepared for a task is not used once its constants have changed."""
    case = PassCase(bs_use=4).with_(**BS_MUL, **OUT, DPU__BS_MUL_CFG__BS_MUL_SRC=1)
    bench = PassBench(case)
    bench.run()
    bench.factors[:] = 3000
    bench.memory.view(0x400000, 64, "test")[:] = np.full(32, 3000, "<i2").view(np.uint8)
    np.testing.assert_array_equal(bench.run(), out(bench.x * 3000))


BROKEN: list[tuple[PassCase, str]] = [
    (
        PassCase().with_(**{"DPU.FEATURE_MODE_CFG.FLYING_MODE": 0}),
        r"DPU\.FEATURE_MODE_CFG .*: a pass must have FLYING_MODE=1",
    ),
    (
        PassCase().with_(**{"DPU_RDMA.RDMA_FEATURE_MODE_CFG.FLYING_MODE": 0}),
        r"DPU_RDMA\.RDMA_FEATURE_MODE_CFG .*: FLYING_MODE must be 1",
    ),
    (
        PassCase().with_(**{"DPU_RDMA.RDMA_FEATURE_MODE_CFG.COMB_USE": 5}),
        r"DPU_RDMA\.RDMA_FEATURE_MODE_CFG: COMB_USE is stored as #5, is not modelled",
    ),
    (
        PassCase().with_(**{"DPU.FEATURE_MODE_CFG.COMB_USE": 1}),
        r"DPU\.FEATURE_MODE_CFG: COMB_USE is stored as #1, is not modelled",
    ),
    (
        PassCase().with_(**{"DPU.DATA_FORMAT.OUT_PRECISION": 2}),
        r"DPU\.DATA_FORMAT .*: with DPU_RDMA.* must be int8 in all three precisions",
    ),
    (
        PassCase(wide=2, size=(2, 1)).with_(**{"DPU.OUT_CVT_SCALE.OUT_CVT_SCALE": 2}),
        r"DPU\.DATA_FORMAT .*: a pass of 16-bit elements must leave them as they are",
    ),
    (PassCase(wide=2), r"DPU\.WDMA_SIZE_0: 2 surfaces of 12 pixels of 16-bit elements, must be as"),
    (
        PassCase().with_(**{"DPU.DATA_CUBE_CHANNEL.ORIG_CHANNEL": 20}),
        r"DPU\.DATA_CUBE_CHANNEL: ORIG_CHANNEL is 20, must be 32 in this pass",
    ),
    (
        PassCase().with_(**{"DPU_RDMA.RDMA_DATA_CUBE_CHANNEL.CHANNEL": 20}),
        r"DPU_RDMA\.RDMA_DATA_CUBE_CHANNEL: CHANNEL is 20, must be a multiple of 16",
    ),
    (
        PassCase().with_(**{"DPU.DATA_CUBE_WIDTH.WIDTH": 3}),
        r"DPU\.DATA_CUBE_WIDTH: size is 3, must be at least 4 and at most",
    ),
    (
        PassCase().with_(**{"DPU.WDMA_SIZE_1.HEIGHT_WDMA": 2}),
        r"DPU\.WDMA_SIZE_1: HEIGHT_WDMA is 2, must be 3 in this pass",
    ),
    (
        PassCase().with_(**{"DPU.SURFACE_ADD.SURF_ADD": 24}),
        r"DPU\.SURFACE_ADD: is 24 in a pass, must be DST_SURF_STRIDE 12",
    ),
    (
        PassCase(target=Place(0, 64, 64)),
        r"DPU\.DST_SURF_STRIDE, .*: 64 bytes from one part of the output to the next, must be at l",
    ),
    (
        PassCase().with_(**{"DPU.BS_OW_CFG.OD_BYPASS": 0}),
        r"DPU\.BS_OW_CFG.*: a pass must have OD_BYPASS=1",
    ),
    (
        PassCase().with_(**{"DPU.BS_OW_CFG.SIZE_E_1": 2}),
        r"DPU\.BS_OW_CFG .*: SIZE_E_0, SIZE_E_1, SIZE_E_2 must be 1 in this pass",
    ),
    (
        PassCase(other="pixel").with_(**{"DPU_RDMA.RDMA_ERDMA_CFG.ERDMA_DISABLE": 1}),
        r"DPU_RDMA\.RDMA_ERDMA_CFG: ERDMA_DISABLE must be 1 exactly when",
    ),
    (
        PassCase(other="pixel").with_(**{"DPU.EW_CFG.EW_DATA_MODE": 0}),
        r"DPU_RDMA\.RDMA_ERDMA_CFG .*: ERDMA_DATA_MODE must be DPU\.EW_CFG's",
    ),
    (
        PassCase(other="pixel").with_(**{"DPU_RDMA.RDMA_ERDMA_CFG.ERDMA_DATA_SIZE": 2}),
        r"DPU_RDMA\.RDMA_ERDMA_CFG .*: only 8-bit operands are modelled",
    ),
    (
        PassCase(other="pixel").with_(**{"DPU_RDMA.RDMA_EW_SURF_STRIDE.EW_SURF_STRIDE": 13}),
        r"DPU_RDMA\.RDMA_EW_SURF_STRIDE: is 13 pixels, must be the 12 of what is read",
    ),
    (
        PassCase(other="channel").with_(**{"DPU_RDMA.RDMA_EW_SURF_STRIDE.EW_SURF_STRIDE": 12}),
        r"DPU_RDMA\.RDMA_EW_SURF_STRIDE: is 12, with notches 0 and 0, must be 1, 0 and 0",
    ),
    (
        PassCase().with_(**{"DPU_RDMA.RDMA_SRC_DMA_CFG.KERNEL_WIDTH": 2}),
        r"DPU_RDMA\.RDMA_SRC_DMA_CFG .*: sizes and strides must be equal",
    ),
    (
        PassCase(repeat=2),
        r"DPU_RDMA\.RDMA_SRC_DMA_CFG .*: repeats pixels 2 times in 2 surfaces, must do so in one",
    ),
    (
        PassCase().with_(**{"DPU_RDMA.RDMA_SRC_BASE_ADDR": SOURCE + 8}),
        r"DPU_RDMA\.RDMA_SRC_BASE_ADDR: #00100008, must be a multiple of 16",
    ),
    (
        PassCase().with_(**{"DPU_RDMA.RDMA_SRC_BASE_ADDR": SOURCE + 0xFFF0}),
        r"DPU_RDMA\.RDMA_SRC_BASE_ADDR: 384 bytes at #0010fff0 end at",
    ),
    (
        PassCase().with_(**{"DPU.DST_BASE_ADDR": SOURCE + 16}),
        r"DPU_RDMA\.RDMA_SRC_BASE_ADDR: the pass writes pixels that it reads in another place",
    ),
    (
        PassCase().with_(
            **BS_MUL,
            **BN_MUL,
            DPU__BS_MUL_CFG__BS_MUL_OPERAND=32767,
            DPU__BN_MUL_CFG__BN_MUL_OPERAND=32767,
        ),
        r"DPU: values between the stages reach 137\d+, must fit 32 bits",
    ),
]


@pytest.mark.parametrize(("case", "text"), BROKEN, ids=[text[:40] for _, text in BROKEN])
def test_broken_passes_are_refused(case: PassCase, text: str) -> None:
    with pytest.raises(SimulatorFault, match=f"^task 7: {text}"):
        PassBench(case).run()


PITCH = Place(0, 32, 16)  # of surfaces of two pixels


@pytest.mark.parametrize("other", ["", "pixel"])
def test_surfaces_are_read_whole_64_bytes_apart(other: str) -> None:
    case = PassCase((1, 2), 3, dataclasses.replace(PITCH, row=32), other=other)
    with pytest.raises(SimulatorFault, match=r"RDMA_SURF_NOTCH: surfaces are read 32 bytes apart"):
        PassBench(case).run()
    bench = PassBench(case, LENIENT)
    bench.run()
    breaches = [o.deviation.breach for o in bench.machine.observations]
    assert breaches == [Breach.SURFACE_PITCH] * (2 if other else 1)
    PassBench(dataclasses.replace(case, surfaces=1)).run()  # one surface has no next one


def test_columns_between_others_are_no_overlap() -> None:
    """A pass may fill every other pixel of the map that it reads the rest of."""
    case = PassCase((3, 2), 1, Place(0, 256, 64), Place(32, 256, 64))
    case = case.with_(**{"DPU.DST_BASE_ADDR": SOURCE + 32})
    bench = PassBench(case)
    want = bench.x
    bench.run()
    np.testing.assert_array_equal(bench.cube(SOURCE, Place(32, 256, 64)), want)


@pytest.mark.parametrize(
    "case",
    [
        PassCase(),
        PassCase(other="pixel"),
        PassCase(other="channel", bs_use=4).with_(**BS_MUL, DPU__BS_MUL_CFG__BS_MUL_SRC=1),
        PassCase(bn_use=1).with_(**BN_ON, DPU__BN_CFG__BN_ALU_SRC=1),
        PassCase((3, 2), 1, repeat=3),
        PassCase((4, 1), 4, Place(0, 16, 64), Place(0, 64, 16), wide=2),
    ],
)
def test_the_model_of_time_counts_the_same(case: PassCase) -> None:
    words = pass_list(case)
    bench = PassBench(case)
    bench.memory.map(COMMANDS, np.array(words, "<u8").view(np.uint8), "commands")
    seen, told = bench.machine.work(COMMANDS, len(words)), work.work(words, RK3588, "pass")
    assert (seen.read, seen.written, seen.operands) == (told.read, told.written, told.coefficients)
    pixels = case.size[0] * case.size[1] * case.surfaces * 16
    assert seen.features == pixels
    assert seen.written == pixels * case.repeat**2
    assert sum(span.end - span.start for span in seen.writes) == seen.written
