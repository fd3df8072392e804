"""Weights as the simulator reads them, and what Mesa's rows of another width come to."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.errors import SimulatorFault
from teflon.ir.builder import Builder
from teflon_rocket.chips import RK3588
from teflon_rocket.mesa.coefs import pack_weights_mesa
from teflon_rocket.mesa.doubts import doubts
from teflon_rocket.simulator.cube import Weights
from teflon_rocket.simulator.policy import LENIENT, Breach
from teflon_rocket.simulator.weights import fetch_weights
from tests.rocket.lists import WEIGHTS, Bench, Case, weight_row
from tests.rocket.packing import IntArray, pack_weights, row_bytes


def read(raw: bytes, kernel: tuple[int, int], case: Case) -> IntArray:
    """Decode bytes as [kernel, row, column, channel]."""
    rest = case.padded % (64 if case.depthwise else 32)
    tail = row_bytes(rest, case.depthwise) if rest else 0
    weights = Weights(0, len(raw), case.made, kernel, case.padded, tail, case.depthwise)
    read = fetch_weights(weights, RK3588, np.frombuffer(raw, np.uint8))
    return read.transpose(3, 0, 1, 2).astype(np.int64)


@given(
    st.integers(1, 300), st.integers(1, 70), st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.booleans(),
)  # fmt: skip
def test_decoding(channels: int, kernels: int, kernel: tuple[int, int], depthwise: bool) -> None:
    case = Case(channels=channels, kernels=kernels, kernel=kernel, depthwise=depthwise)
    rng = np.random.default_rng(channels)
    w = rng.integers(-128, 128, (case.made, *kernel, case.padded))
    raw = pack_weights(w, depthwise)
    assert len(raw) == case.made * kernel[0] * kernel[1] * weight_row(case)
    np.testing.assert_array_equal(read(raw, kernel, case), w)


# Ref: docs/hardware/rocket_vendor.md §1 "Weight row widths": bytes of a tap, by channels
SEEN = {8: 16, 16: 16, 17: 32, 24: 32, 32: 32, 33: 64, 40: 64, 48: 64, 49: 64, 72: 80, 88: 96,
        100: 128, 112: 128, 144: 144, 176: 192}  # fmt: skip


@pytest.mark.parametrize("channels", SEEN)
def test_depthwise_widths_are_those_of_the_vendor(channels: int) -> None:
    case = Case(channels=channels, kernels=channels, depthwise=True)
    size = 9 * SEEN[channels]
    bench = Bench(
        case.with_(
            CNA__WEIGHT_SIZE0__WEIGHT_BYTES=size, CNA__WEIGHT_SIZE1__WEIGHT_BYTES_PER_KERNEL=size
        )
    )
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


def narrow(channels: int) -> Case:
    """A depthwise convolution as Mesa writes it: rows of 48 bytes."""
    case = Case(channels=channels, kernels=channels, depthwise=True)
    return case.with_(
        CNA__WEIGHT_SIZE0__WEIGHT_BYTES=9 * case.padded,
        CNA__WEIGHT_SIZE1__WEIGHT_BYTES_PER_KERNEL=9 * case.padded,
    )


@pytest.mark.parametrize("channels", [48, 112])
def test_depthwise_rows_of_48_bytes(channels: int) -> None:
    case = narrow(channels)
    text = rf"CNA\.WEIGHT_SIZE0 .*: must be {9 * (channels + 16)} for {channels} channels: depthw"
    with pytest.raises(SimulatorFault, match=text):
        Bench(case).run()
    bench = Bench(case, LENIENT)
    tight = bench.w.astype(np.int8).reshape(9, channels)
    whole = channels // 64 * 64
    packed = tight[:, :whole].tobytes() + tight[:, whole:].tobytes()
    memory = bench.memory.view(WEIGHTS, 9 * (channels + 16), "test")
    memory[:] = 55
    memory[: len(packed)] = np.frombuffer(packed, np.uint8)
    have = bench.run()
    assert [o.deviation.breach for o in bench.machine.observations] == [Breach.DEPTHWISE_ROWS]
    # Full groups are right; the last rows are read 64 bytes apart, with 0 behind the loaded bytes.
    last = np.frombuffer(packed, np.int8)[9 * whole :]
    rows = np.pad(last, (0, 9 * 64 - len(last))).reshape(9, 64)[:, : channels - whole]
    bench.w = np.concatenate([tight[:, :whole], rows], 1).reshape(bench.w.shape).astype(np.int64)
    np.testing.assert_array_equal(have, bench.converted(bench.values()))


def test_wrong_sizes_of_depthwise_rows() -> None:
    case = narrow(48).with_(CNA__WEIGHT_SIZE0__WEIGHT_BYTES=9 * 64)
    with pytest.raises(SimulatorFault, match=r"CNA\.WEIGHT_SIZE1 .*: must be 576 for CNA"):
        Bench(case, LENIENT).run()


def test_an_odd_number_of_kernels() -> None:
    case = Case(kernels=5).with_(CNA__WEIGHT_SIZE2__WEIGHT_KERNELS=5)
    with pytest.raises(SimulatorFault, match=re.escape("WEIGHT_KERNELS is 5, must be even (a ker")):
        Bench(case).run()


def mesas(channels: int, kernels: int, depthwise: bool) -> bool:
    """Whether the hardware reads Mesa's bytes of 3x3 kernels as they were meant."""
    case = Case(channels=channels, kernels=kernels, depthwise=depthwise)
    rng = np.random.default_rng(channels)
    w = rng.integers(0, 256, (1 if depthwise else kernels, 9, channels), np.uint8)
    packed = pack_weights_mesa(w, 7, depthwise).tobytes()
    size = case.made * 9 * weight_row(case)
    seen = read(packed[:size].ljust(size, b"\0"), (3, 3), case)
    seen = seen.reshape(case.made, 9, -1)[: len(w), :, :channels]
    return bool(((seen + 128).astype(np.uint8) == w).all())


def doubted(channels: int, kind: str, kernel: int = 3) -> list[str]:
    """The doubts about a convolution of some channels."""
    b = Builder("m")
    x = b.input("x", "u8", (1, 5, 5, channels), 0.02, 128)
    if kind == "depthwise":
        w = np.zeros((1, kernel, kernel, channels), np.uint8)
        b.output(b.depthwise_conv2d(x, w, weight_scale=0.1, weight_zero_point=0, scale=0.1))
    else:
        w = np.zeros((4 + (kind == "odd"), kernel, kernel, channels), np.uint8)
        b.output(b.conv2d(x, w, weight_scale=0.1, weight_zero_point=0, scale=0.1))
    return doubts(b.build().ops[0])


@pytest.mark.parametrize("kind", ["depthwise", "even", "odd"])
def test_doubts_name_exactly_the_misplaced_rows(kind: str) -> None:
    wrong = 0
    for channels in range(2, 200):
        right = mesas(channels, 5 if kind == "odd" else 4, kind == "depthwise")
        assert right == (not doubted(channels, kind)), channels
        wrong += not right
    assert (wrong > 0) == (kind != "even")


def test_one_tap_has_no_misplaced_rows() -> None:
    assert doubted(48, "depthwise", kernel=1) == []
    case = dataclasses.replace(narrow(48), kernel=(1, 1)).with_(
        CNA__WEIGHT_SIZE0__WEIGHT_BYTES=48, CNA__WEIGHT_SIZE1__WEIGHT_BYTES_PER_KERNEL=48
    )
    bench = Bench(case, LENIENT)
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))
