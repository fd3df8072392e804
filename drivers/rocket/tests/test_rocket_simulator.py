"""What the simulated units compute, against the definitions written out as loops."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon_rocket.simulator.policy import LENIENT, Breach
from tests.rocket.lists import (
    BIASES,
    FEATURES,
    WEIGHTS,
    Bench,
    Case,
    IntArray,
    scaled,
    surfaces,
)


def check(case: Case) -> None:
    bench = Bench(case)
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


sizes = st.tuples(st.integers(1, 9), st.integers(2, 9))


@st.composite
def cases(draw: st.DrawFn, depthwise: bool) -> Case:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    reach = [(kernel[i] - 1) * dilation[i] + 1 for i in (0, 1)]
    rows, columns = draw(sizes)
    pads = [draw(st.integers(0, reach[i % 2] - 1)) for i in range(4)]
    rows, columns = max(rows, reach[0]), max(columns, reach[1])
    channels = draw(st.integers(1, 130 if depthwise else 70))
    return Case(
        size=(rows, columns),
        channels=channels,
        kernels=channels if depthwise else draw(st.integers(1, 70)),
        kernel=kernel,
        stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        dilation=dilation,
        pad=(pads[0], pads[1], pads[2], pads[3]),
        pad_value=draw(st.integers(-128, 127)),
        depthwise=depthwise,
        compensation=draw(st.integers(-255, 255)),
        truncate=draw(st.sampled_from([0, 0, 1, 3])),
        scale=draw(st.integers(1 << 14, (1 << 15) - 1)),
        shift=draw(st.integers(18, 28)),
        offset=draw(st.integers(-128, 127)),
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=60)
@given(cases(depthwise=False))
def test_direct_convolution(case: Case) -> None:
    check(case)


@settings(max_examples=60)
@given(cases(depthwise=True))
def test_depthwise_convolution(case: Case) -> None:
    check(case)


def test_long_sums_are_exact() -> None:
    case = Case(size=(2, 2), channels=2048, kernels=3, kernel=(1, 1), compensation=127, shift=26)
    bench = Bench(case)
    bench.w[:] = 127
    bench.x[:] = -128
    bench.x[0, 0, 5] = -127
    bench.memory.view(WEIGHTS, bench.w.size, "test")[:] = 127
    bench.memory.view(FEATURES, bench.x.size, "test")[:] = np.frombuffer(
        surfaces(bench.x), np.uint8
    )
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


PER_CHANNEL = Case(stream=7, shift=15).with_(
    DPU__BS_MUL_CFG__BS_MUL_SHIFT_VALUE=14, DPU__DATA_FORMAT__BS_MUL_SHIFT_VALUE_NEG=14
)


def per_channel(bench: Bench) -> IntArray:
    """What streamed operands make of the sums."""
    case = bench.case
    acc, q = bench.sums()
    v = acc + (bench.ow if case.stream & 2 else case.compensation) * q
    if case.stream & 1:
        v = v + bench.bias
    if case.stream & 4:
        v = np.stack([scaled(v[..., k], int(m), 14) for k, m in enumerate(bench.mul)], -1)
    return v


@pytest.mark.parametrize("stream", [1, 4, 7])
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("channels", [3, 16, 37])
def test_streams_of_operands_per_channel(stream: int, depthwise: bool, channels: int) -> None:
    case = dataclasses.replace(
        PER_CHANNEL, channels=channels, kernels=channels, depthwise=depthwise, stream=stream
    )
    bench = Bench(case)
    np.testing.assert_array_equal(bench.run(), bench.converted(per_channel(bench)))


@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [
        ({"DPU__BS_CFG__BS_RELU_BYPASS": 0}, 0, None),
        (
            {
                "DPU__BS_CFG__BS_RELU_BYPASS": 0,
                "DPU__BS_CFG__BS_RELUX_EN": 1,
                "DPU__BS_RELUX_CMP_VALUE__BS_RELUX_CMP_DAT": 9000,
            },
            0,
            9000,
        ),
        ({"DPU__BN_CFG__BN_BYPASS": 0, "DPU__BN_CFG__BN_RELU_BYPASS": 0}, 0, None),
        (
            {
                "DPU__BN_CFG__BN_BYPASS": 0,
                "DPU__BN_CFG__BN_RELU_BYPASS": 0,
                "DPU__BN_CFG__BN_RELUX_EN": 1,
                "DPU__BN_RELUX_CMP_VALUE__BN_RELUX_CMP_DAT": 12345,
            },
            0,
            12345,
        ),
    ],
)
def test_clamps_of_both_stages(changes: dict[str, int], low: int, high: int | None) -> None:
    bench = Bench(Case(kernels=20).with_(**changes))
    wanted = bench.converted(np.clip(bench.values(), low, high))
    np.testing.assert_array_equal(bench.run(), wanted)


@pytest.mark.parametrize("relu", [0, 1])
def test_second_stage_adds_between_two_clamps(relu: int) -> None:
    """A clamp below zero: add in BN what the first clamp must not see."""
    case = Case(kernels=20).with_(
        DPU__BS_CFG__BS_RELU_BYPASS=relu,
        DPU__BN_CFG__BN_BYPASS=0,
        DPU__BN_CFG__BN_ALU_BYPASS=0,
        DPU__BN_CFG__BN_ALU_ALGO=2,
        DPU__BN_ALU_CFG__BN_ALU_OPERAND=-5000,
        DPU__BN_CFG__BN_RELU_BYPASS=0,
    )
    bench = Bench(case)
    first = bench.values() if relu else np.maximum(bench.values(), 0)
    wanted = bench.converted(np.maximum(first - 5000, 0))
    np.testing.assert_array_equal(bench.run(), wanted)


@pytest.mark.parametrize("algorithm", [2, 4])
def test_second_stage_multiplies_adds_shifts_and_clamps(algorithm: int) -> None:
    case = Case(kernels=20, shift=10).with_(
        DPU__BN_CFG__BN_BYPASS=0,
        DPU__BN_CFG__BN_ALU_BYPASS=0,
        DPU__BN_CFG__BN_ALU_ALGO=algorithm,
        DPU__BN_ALU_CFG__BN_ALU_OPERAND=777777,
        DPU__BN_CFG__BN_MUL_BYPASS=0,
        DPU__BN_MUL_CFG__BN_MUL_OPERAND=1234,
        DPU__BN_MUL_CFG__BN_MUL_SHIFT_VALUE=12,
        DPU__DATA_FORMAT__BN_MUL_SHIFT_VALUE_NEG=12,
        DPU__BN_CFG__BN_RELU_BYPASS=0,
    )
    bench = Bench(case)
    added = bench.values() * 1234 + (777777 if algorithm == 2 else -777777)
    wanted = bench.converted(np.maximum(scaled(added, 1, 12), 0))
    np.testing.assert_array_equal(bench.run(), wanted)


EW = {
    "DPU__EW_CVT_SCALE_VALUE__EW_OP_CVT_SCALE": 22222,
    "DPU__EW_CVT_SCALE_VALUE__EW_OP_CVT_SHIFT": 7,
}


def _operand(bench: Bench, add_first: bool, ties_up: bool) -> IntArray:
    kernels = bench.case.kernels
    o = bench.o[..., :kernels]
    return scaled(o + 11, 22222, 7, ties_up) if add_first else scaled(o, 22222, 7, ties_up) + 11


@pytest.mark.parametrize("kernels", [7, 16, 60])
@pytest.mark.parametrize("add_first", [True, False])
@pytest.mark.parametrize("ties_up", [True, False])
def test_addition(kernels: int, add_first: bool, ties_up: bool) -> None:
    case = Case(kernels=kernels, operand=True).with_(
        **EW,
        DPU__EW_CVT_OFFSET_VALUE__EW_OP_CVT_OFFSET=11,
        DPU__EW_CFG__EW_CVT_TYPE=int(add_first),
        DPU__EW_CFG__EW_CVT_ROUND=int(ties_up),
    )
    bench = Bench(case)
    wanted = bench.converted(bench.values() + _operand(bench, add_first, ties_up))
    np.testing.assert_array_equal(bench.run(), wanted)


@pytest.mark.parametrize(
    ("algorithm", "combine"), [(0, np.maximum), (1, np.minimum), (4, np.subtract)]
)
@pytest.mark.parametrize("relu", [False, True])
def test_other_elementwise_operations(algorithm: int, combine: np.ufunc, relu: bool) -> None:
    case = Case(kernels=20, operand=True).with_(
        **EW,
        DPU__EW_CVT_OFFSET_VALUE__EW_OP_CVT_OFFSET=11,
        DPU__EW_CFG__EW_ALU_ALGO=algorithm,
        DPU__EW_CFG__EW_RELU_BYPASS=int(not relu),
        DPU__EW_CFG__EW_RELUX_EN=int(relu),
        DPU__EW_RELUX_CMP_VALUE__EW_RELUX_CMP_DAT=30000,
    )
    bench = Bench(case)
    v = combine(bench.values(), _operand(bench, True, False))
    np.testing.assert_array_equal(bench.run(), bench.converted(np.clip(v, 0, 30000) if relu else v))


@pytest.mark.parametrize("add_first", [False, True])
@pytest.mark.parametrize("ties_up", [False, True])
def test_output_converter_modes(add_first: bool, ties_up: bool) -> None:
    case = Case(scale=1, shift=9, offset=-3).with_(
        DPU__OUT_CVT_SHIFT__CVT_TYPE=int(add_first), DPU__OUT_CVT_SHIFT__CVT_ROUND=int(ties_up)
    )
    bench = Bench(case)
    v = bench.values()
    wanted = scaled(v - 3, 1, 9, ties_up) if add_first else scaled(v, 1, 9, ties_up) - 3
    np.testing.assert_array_equal(bench.run(), np.clip(wanted, -128, 127))


def test_lanes_beyond_the_last_channel_hold_the_fill() -> None:
    bench = Bench(Case(kernels=5).with_(DPU__OFFSET_PEND__OFFSET_PEND=0xFFF9))
    bench.run()
    lanes = bench.out.view(np.int8).reshape(-1, 16)
    assert (lanes[:, 5:] == -7).all()


def test_without_compensation() -> None:
    bench = Bench(Case().with_(DPU__BS_OW_CFG__OD_BYPASS=1))
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.sums()[0] + bench.bias))


def test_compensation_beyond_sixteen_bits_of_weight() -> None:
    check(Case(compensation=-32768, size=(3, 3), shift=35))
    check(Case(compensation=32767, size=(3, 3), shift=35, depthwise=True))


def test_large_maps_are_shared_between_threads() -> None:
    case = Case(size=(70, 60), channels=16, kernels=16, kernel=(2, 1), pad=(1, 0, 0, 0), shift=20)
    assert 70 * 60 * 2 * 16 * 16 > 2_000_000
    check(case)


def test_negative_surface_stride() -> None:
    """Surfaces that lie in memory from the last to the first."""
    case = Case(channels=48)
    pixels = case.size[0] * case.size[1]
    bench = Bench(
        case.with_(
            CNA__DMA_CON2__SURF_STRIDE=-pixels - 4 * case.size[1],
            CNA__FEATURE_DATA_ADDR__FEATURE_BASE_ADDR=FEATURES + 2 * 16 * pixels,
        )
    )
    bench.x = np.concatenate([bench.x[..., 32:], bench.x[..., 16:32], bench.x[..., :16]], -1)
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


def test_doubled_width_reads_the_real_one() -> None:
    case = Case(size=(4, 8), operand=True)
    bench = Bench(case.with_(CNA__DATA_SIZE0__DATAIN_WIDTH=16, CNA__CBUF_CON1__DATA_ENTRIES=4))
    table = scaled(bench.o[..., : case.kernels], 1, 0)
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values() + table))


@pytest.mark.parametrize("operand", ["bias", "ow", "mul"])
def test_changed_operands_are_read_again(operand: str) -> None:
    bench = Bench(PER_CHANNEL)
    before = bench.run()
    getattr(bench, operand)[:] //= 3
    stream = np.frombuffer(bench.biases(), np.uint8)
    bench.memory.view(BIASES, len(stream), "test")[:] = stream
    have = bench.run()
    assert (have != before).any()
    np.testing.assert_array_equal(have, bench.converted(per_channel(bench)))


def test_odd_channels_get_the_second_pad_byte() -> None:
    case = Case(depthwise=True, pad=(1, 1, 1, 1)).with_(CNA__PAD_CON1__PAD_VALUE=0x0004)
    bench = Bench(case, LENIENT)
    have = bench.run()
    low = dataclasses.replace(bench.case, pad_value=4)
    bench.case = low
    even = bench.converted(bench.values())
    bench.case = dataclasses.replace(low, pad_value=0)
    odd = bench.converted(bench.values())
    np.testing.assert_array_equal(have[..., ::2], even[..., ::2])
    np.testing.assert_array_equal(have[..., 1::2], odd[..., 1::2])
    (observed,) = bench.machine.observations
    assert observed.deviation.breach is Breach.PAD_BYTES
