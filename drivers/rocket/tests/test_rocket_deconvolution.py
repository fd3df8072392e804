"""Deconvolution and dilation in the simulated CNA, against their definitions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.errors import SimulatorFault
from teflon_rocket.registers import CNA, split_command
from teflon_rocket.simulator.policy import LENIENT, Breach
from tests.rocket.lists import Bench, Case, IntArray, lists

Sizes = tuple[int, int]


def transposed(x: IntArray, w: IntArray, stride: Sizes, crop: Sizes, size: Sizes) -> IntArray:
    """Every input pixel adds its multiple of the kernel to the output: [row, column, kernel].

    w: [kernel, row, column, channel] as a model has it, not rotated.
    """
    out = np.zeros((*size, len(w)), np.int64)
    for y, x_, ty, tx in np.ndindex(*x.shape[:2], *w.shape[1:3]):
        at = y * stride[0] + ty - crop[0], x_ * stride[1] + tx - crop[1]
        if 0 <= at[0] < size[0] and 0 <= at[1] < size[1]:
            out[at] += w[:, ty, tx] @ x[y, x_]
    return out


@st.composite
def deconvolutions(draw: st.DrawFn, depthwise: bool = False) -> Case:
    pairs = st.tuples(st.integers(1, 5), st.integers(1, 5))
    kernel, spread = draw(pairs), draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    spread = (max(spread[0], 2), spread[1]) if spread == (1, 1) else spread
    pad = [draw(st.integers(0, kernel[i % 2] - 1)) for i in range(4)]
    size = draw(st.tuples(st.integers(2, 5), st.integers(2, 5)))
    spans = [(size[i] - 1) * spread[i] + 1 for i in (0, 1)]
    kernel = (min(kernel[0], spans[0]), min(kernel[1], spans[1]))
    channels = draw(st.integers(1, 80))
    return Case(
        size=size,
        channels=channels,
        kernels=channels if depthwise else draw(st.integers(1, 40)),
        kernel=kernel,
        spread=spread,
        pad=(min(pad[0], kernel[0] - 1), min(pad[1], kernel[1] - 1),
             min(pad[2], kernel[0] - 1), min(pad[3], kernel[1] - 1)),
        pad_value=draw(st.integers(-128, 127)),
        depthwise=depthwise,
        compensation=draw(st.integers(-255, 255)),
        seed=draw(st.integers(0, 99)),
    )  # fmt: skip


@settings(max_examples=50)
@given(st.one_of(deconvolutions(), deconvolutions(depthwise=True)))
def test_inserted_elements_have_the_pad_value(case: Case) -> None:
    bench = Bench(case)
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


@settings(max_examples=50)
@given(deconvolutions())
def test_a_rotated_kernel_makes_a_transposed_convolution(case: Case) -> None:
    """With k - 1 - p rows and columns of padding, and without zero points."""
    case = dataclasses.replace(case, pad_value=0, compensation=0)
    bench = Bench(case)
    crop = case.kernel[0] - 1 - case.pad[0], case.kernel[1] - 1 - case.pad[1]
    model = bench.w[: case.kernels, ::-1, ::-1]
    wanted = transposed(bench.x, model, case.spread, crop, case.out) + bench.bias
    np.testing.assert_array_equal(bench.run(), bench.converted(wanted))


@given(st.integers(2, 8), st.integers(2, 8))
def test_registers_hold_the_stride_less_one(across: int, down: int) -> None:
    words = lists(Case(spread=(down, across), kernel=(2, 2), pad=(1, 1, 0, 0)))
    values = {(c[0], c[1]): c[2] for c in map(split_command, words)}
    con3 = values[CNA.target + 1, CNA.CONV_CON3.offset]
    assert con3 == 9 | (across - 1) << 8 | (down - 1) << 11


def test_dilation_is_stored_less_one() -> None:
    """The vendor's word for a dilation of 2."""
    case = Case(size=(9, 8), dilation=(2, 2), pad=(2, 2, 2, 2), pad_value=-1)
    bench = Bench(case.with_(CNA__CONV_CON3=0x210009))
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


DECONVOLUTION = Case(size=(5, 16), spread=(2, 2), kernel=(2, 2), pad=(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"CNA__CONV_CON1__DECONV": 0}, r"CONV_CON3 .*: DECONV strides without CONV_CON1\.DECONV"),
        ({"CNA__CONV_CON3__CONV_X_STRIDE": 2}, r"CONV_CON3 .*: strides \(2, 1\) and dilations \("),
        ({"CNA__CONV_CON3__ATROUS_Y_DILATION": 2}, r"strides \(1, 1\) and dilations \(1, 2\) with"),
        (
            {
                "CNA__CONV_CON1__ARGB_IN": 8,
                "CNA__CONV_CON1__NONALIGN_DMA": 1,
                "CNA__CONV_CON1__GROUP_LINE_OFF": 1,
            },
            r"CONV_CON1: ARGB_IN is 8 with DECONV, must be 0",
        ),
    ],
)
def test_refused(changes: dict[str, int], text: str) -> None:
    with pytest.raises(SimulatorFault, match=text):
        Bench(DECONVOLUTION.with_(**changes)).run()


def test_input_that_no_window_reaches() -> None:
    case = dataclasses.replace(DECONVOLUTION, size=(7, 20), pad=(1, 1, -6, -9), seed=3)
    bench = Bench(case)
    assert case.out == (7, 30)
    np.testing.assert_array_equal(bench.run(), bench.converted(bench.values()))


def test_windows_begin_within_the_input() -> None:
    case = dataclasses.replace(DECONVOLUTION, pad=(1, 1, 2, 1))
    with pytest.raises(SimulatorFault, match=r"CUBE_HEIGHT: is 11, must be at most 10 so that ev"):
        Bench(case).run()


def test_inserted_elements_of_two_bytes() -> None:
    """Padding is not needed for odd channels to get the second byte."""
    case = dataclasses.replace(DECONVOLUTION, depthwise=True, pad=(0, 0, 0, 0))
    case = case.with_(CNA__PAD_CON1__PAD_VALUE=0x0004)
    with pytest.raises(SimulatorFault, match=r"PAD_VALUE has the bytes 4 and 0, must be equal"):
        Bench(case).run()
    bench = Bench(case, LENIENT)
    have = bench.run()
    assert [o.deviation.breach for o in bench.machine.observations] == [Breach.PAD_BYTES]
    for parity, value in ((0, 4), (1, 0)):
        bench.case = dataclasses.replace(case, pad_value=value)
        wanted = bench.converted(bench.values())
        np.testing.assert_array_equal(have[..., parity::2], wanted[..., parity::2])
