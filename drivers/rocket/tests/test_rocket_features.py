"""How the simulated CNA fetches its input: few channels, parts of maps, maps of one pixel."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from teflon.errors import SimulatorFault
from teflon.ir.builder import Builder
from teflon_rocket.mesa.doubts import doubts
from teflon_rocket.simulator.policy import LENIENT, Breach
from tests.rocket.lists import FEATURES, WEIGHTS, Bench, Case, scaled
from tests.rocket.packing import IntArray, cdiv


def few(case: Case, **changes: int) -> Case:
    """A case with its channels interleaved, as the vendor's compiler writes it."""
    rows, columns = case.size
    return case.with_(
        CNA__CONV_CON1__ARGB_IN=7 + case.channels,
        CNA__CONV_CON1__NONALIGN_DMA=1,
        CNA__CONV_CON1__GROUP_LINE_OFF=1,
        CNA__DMA_CON1__LINE_STRIDE=columns,
        CNA__DMA_CON2__SURF_STRIDE=columns * (rows - 1),
        CNA__CBUF_CON1__DATA_ENTRIES=cdiv(columns, 16) * 16 * rows,
    ).with_(**changes)


def put(bench: Bench, raw: IntArray) -> None:
    """Lay bytes [row, column, channel] in memory: rows of whole 16 pixels, junk behind the last."""
    rows, columns, channels = raw.shape
    memory = np.full((rows, cdiv(columns, 16) * 16, channels), 0x5A, np.uint8)
    memory[:, :columns] = raw
    bench.memory.unmap(FEATURES)
    bench.memory.map(FEATURES, bytearray(memory.tobytes()), "features")


@pytest.mark.parametrize("interleaved", [1, 2, 3, 4])
@pytest.mark.parametrize("columns", [5, 16, 20])
def test_signed_interleaved_input(interleaved: int, columns: int) -> None:
    case = few(Case(channels=interleaved, size=(6, columns), pad=(1, 1, 1, 1), pad_value=-14))
    bench = Bench(case)
    raw = np.random.default_rng(1).integers(-128, 128, (6, columns, interleaved))
    put(bench, raw.astype(np.int8).view(np.uint8))
    bench.x[:] = 0
    bench.x[..., :interleaved] = raw
    cancel(bench, interleaved)
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


def cancel(bench: Bench, interleaved: int) -> None:
    """Lanes without a channel are no input: give their weights a real value of zero."""
    bench.w[..., interleaved:] = -bench.case.compensation
    words = bench.w.transpose(1, 2, 0, 3).astype(np.int8).tobytes()
    bench.memory.view(WEIGHTS, len(words), "test")[:] = np.frombuffer(words, np.uint8)


@pytest.mark.parametrize("interleaved", [1, 2, 3, 4])
@pytest.mark.parametrize("add_first", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_converted_interleaved_input(interleaved: int, add_first: bool, signed: bool) -> None:
    case = Case(channels=interleaved, size=(6, 20), pad=(1, 1, 1, 1), pad_value=9)
    scales, offsets, shifts = [300, 16384, 20000, 7], [-128, 5, -7, 1], [8, 14, 15, 0]
    changes = {
        "CNA__CVT_CON0__CVT_BYPASS": 0,
        "CNA__CVT_CON0__CVT_TYPE": int(add_first),
        "CNA__CVT_CON0__DATA_SIGN": int(signed),
        "CNA__CVT_CON5__PER_CHANNEL_CVT_EN": 0xFFFF,
    }
    for n in range(4):
        changes[f"CNA__CVT_CON{n + 1}__CVT_SCALE{n}"] = scales[n]
        changes[f"CNA__CVT_CON{n + 1}__CVT_OFFSET{n}"] = offsets[n]
        changes[f"CNA__CVT_CON0__CVT_TRUNCATE_{n}"] = shifts[n]
    bench = Bench(few(case, **changes))
    raw = np.random.default_rng(1).integers(0, 256, (6, 20, interleaved))
    put(bench, raw)
    value = raw.astype(np.uint8).view(np.int8).astype(np.int64) if signed else raw
    bench.x[:] = 0
    for n in range(interleaved):
        if add_first:
            converted = scaled((value[..., n] + offsets[n]), scales[n], shifts[n])
        else:
            converted = scaled(value[..., n], scales[n], shifts[n]) + offsets[n]
        bench.x[..., n] = np.clip(converted, -128, 127)
    cancel(bench, interleaved)
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


def test_rows_that_are_counted_without_rounding_up() -> None:
    """As Mesa does it for one channel, whose rows it lays 20 bytes apart; the hardware reads 32."""
    case = few(Case(channels=1, size=(6, 20), kernel=(1, 1)), CNA__CBUF_CON1__DATA_ENTRIES=120)
    with pytest.raises(SimulatorFault, match=r"DATA_ENTRIES is 120, must be at least 192: 6 rows"):
        Bench(case).run()
    bench = Bench(case, LENIENT)
    raw = np.random.default_rng(1).integers(-128, 128, 6 * 32)
    bench.memory.view(FEATURES, 192, "test")[:] = raw.astype(np.int8).view(np.uint8)
    bench.x[:] = 0
    bench.x[..., 0] = raw.reshape(6, 32)[:, :20]
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))
    assert [o.deviation.breach for o in bench.machine.observations] == [Breach.INTERLEAVED_ROWS]


@pytest.mark.parametrize(("width", "doubtful"), [(8, 0), (16, 0), (20, 1), (32, 0), (33, 1)])
def test_doubts_about_rows_of_one_channel(width: int, doubtful: int) -> None:
    b = Builder("m")
    x = b.input("x", "u8", (1, width, width, 1), 0.02, 128)
    w = np.zeros((4, 3, 3, 1), np.uint8)
    b.output(b.conv2d(x, w, weight_scale=0.1, weight_zero_point=0, scale=0.1))
    assert len(doubts(b.build().ops[0])) == doubtful


def test_few_channels_must_fit_their_banks() -> None:
    case = few(Case(channels=3, size=(70, 33), kernel=(1, 1)), CNA__CBUF_CON0__DATA_BANK=1)
    text = r"CBUF_CON0: 70 rows of 48 pixels are 3360, must fit the 2048 of DATA_BANK 1"
    with pytest.raises(SimulatorFault, match=text):
        Bench(case).run()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"CNA__CONV_CON1__ARGB_IN": 12}, r"ARGB_IN is 12, must be 0 or 8 to 11"),
        ({"CNA__CONV_CON1__NONALIGN_DMA": 0}, r"ARGB_IN needs NONALIGN_DMA and GROUP_LINE_OFF"),
        ({"CNA__DATA_SIZE0__DATAIN_WIDTH": 8}, r"DATAIN_WIDTH is 8 with DMA_WIDTH 5, must be 5 or"),
        ({"CNA__FEATURE_DATA_ADDR__FEATURE_BASE_ADDR": FEATURES + 5}, r"must be a multiple of 16"),
    ],
)
def test_refused(changes: dict[str, int], text: str) -> None:
    with pytest.raises(SimulatorFault, match=text):
        Bench(few(Case(channels=3, size=(6, 5)), **changes)).run()


@pytest.mark.parametrize(("declared", "entries"), [(5, 96), (16, 96)])
def test_both_ways_to_declare_narrow_rows(declared: int, entries: int) -> None:
    """The vendor declares the width, Mesa at least 16; memory has rows of 16 pixels for both."""
    case = few(
        Case(channels=1, size=(6, 5), kernel=(1, 1)),
        CNA__DATA_SIZE0__DATAIN_WIDTH=declared,
        CNA__DMA_CON1__LINE_STRIDE=declared,
        CNA__CBUF_CON1__DATA_ENTRIES=entries,
    )
    bench = Bench(case)
    raw = np.random.default_rng(1).integers(-128, 128, (6, 5, 1))
    put(bench, raw.astype(np.int8).view(np.uint8))
    bench.x[:] = 0
    bench.x[..., :1] = raw
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("start", [(0, 0), (2, 3)])
def test_a_part_of_a_map(depthwise: bool, start: tuple[int, int]) -> None:
    """Line by line; strides as the vendor's phases of a resize have them."""
    whole, part, channels = (9, 11), (5, 6), 48
    case = Case(size=part, channels=channels, kernels=channels, depthwise=depthwise)
    surface = cdiv(whole[0] * whole[1], 4) * 4
    at = FEATURES + 16 * (start[0] * whole[1] + start[1])
    bench = Bench(
        case.with_(
            CNA__CONV_CON1__GROUP_LINE_OFF=1,
            CNA__DMA_CON1__LINE_STRIDE=whole[1],
            CNA__DMA_CON2__SURF_STRIDE=surface - part[1],
            CNA__FEATURE_DATA_ADDR__FEATURE_BASE_ADDR=at,
        )
    )
    big = np.random.default_rng(2).integers(-128, 128, (channels // 16, surface, 16))
    bench.memory.unmap(FEATURES)
    bench.memory.map(FEATURES, bytearray(big.astype(np.int8).tobytes()), "features")
    pixels = big[:, : whole[0] * whole[1]].reshape(-1, *whole, 16)
    cut = pixels[:, start[0] : start[0] + part[0], start[1] : start[1] + part[1]]
    bench.x = cut.transpose(1, 2, 0, 3).reshape(*part, channels)
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


def test_groups_of_rows_lie_together() -> None:
    case = Case().with_(CNA__DMA_CON1__LINE_STRIDE=28)
    text = r"DMA_CON1: LINE_STRIDE is 28, must be 24: four rows of 6 pixels are fetched as one"
    with pytest.raises(SimulatorFault, match=text):
        Bench(case).run()


def test_an_unaligned_fetch_of_surfaces() -> None:
    case = Case().with_(CNA__CONV_CON1__NONALIGN_DMA=1)
    with pytest.raises(SimulatorFault, match=r"NONALIGN_DMA without ARGB_IN is not modelled"):
        Bench(case).run()


@pytest.mark.parametrize("kernels", [1, 7, 40])
def test_a_fully_connected_layer(kernels: int) -> None:
    """A map of one pixel: the surface stride is negative, an odd kernel has one of zeros behind."""
    case = Case(size=(1, 1), channels=64, kernels=kernels, kernel=(1, 1))
    case = case.with_(CNA__DMA_CON2__SURF_STRIDE=-3, CNA__CONV_CON2__FEATURE_GRAINS=2)
    bench = Bench(dataclasses.replace(case, compensation=-5))
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


def repeated(depthwise: bool) -> Case:
    """One pixel for a map of 4 x 5; the padding only says how large that is."""
    case = Case(size=(1, 1), kernel=(1, 1), pad=(0, 0, 3, 4), depthwise=depthwise)
    return case.with_(
        CNA__CONV_CON1__GROUP_LINE_OFF=1,
        CNA__CONV_CON3__CONV_X_STRIDE=0,
        CNA__CONV_CON3__CONV_Y_STRIDE=0,
        CNA__CBUF_CON1__DATA_ENTRIES=0,
        CNA__DMA_CON1__LINE_STRIDE=1,
        CNA__DMA_CON2__SURF_STRIDE=0,
    )


@pytest.mark.parametrize("depthwise", [False, True])
def test_one_pixel_for_a_whole_map(depthwise: bool) -> None:
    """As the vendor expands a vector to a map."""
    bench = Bench(repeated(depthwise))
    have = bench.run()
    assert have.shape[:2] == (4, 5)
    bench.case = dataclasses.replace(bench.case, pad=(0, 0, 0, 0))
    one = bench.converted(bench.values())
    np.testing.assert_array_equal(have, np.broadcast_to(one, have.shape))


@pytest.mark.parametrize(
    "change",
    [
        {"CNA__CONV_CON3__CONV_Y_STRIDE": 1},
        {"CNA__PAD_CON0__PAD_TOP": 1},
        {"CNA__DATA_SIZE0__DATAIN_HEIGHT": 2, "CNA__FC_DATA_SIZE0__DMA_HEIGHT": 2},
    ],
)
def test_no_stride_is_for_one_pixel_only(change: dict[str, int]) -> None:
    with pytest.raises(SimulatorFault, match=r"CONV_Y_STRIDE \d, must not be 0, or both for"):
        Bench(repeated(False).with_(**change)).run()
