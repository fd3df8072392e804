"""The C loops of the simulated units against numpy, exactly."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from teflon_rocket.simulator import _units
from teflon_rocket.simulator.core import CoreTask
from teflon_rocket.simulator.dpu import DpuTask, Elementwise, Output, Scale, Stage
from teflon_rocket.simulator.post import Arithmetic, general, process
from teflon_rocket.simulator.rdma import ChannelOperands
from teflon_rocket.simulator.rounding import round_shift

Pair = tuple[int, int]


def windows(
    x: NDArray[np.int8],
    pad: NDArray[Any],
    geometry: tuple[Pair, Pair, Pair, Pair],
    rows: range,
    width: int,
) -> NDArray[np.int64]:
    """[pixel, tap, channel] of features [u, y, x, 16]."""
    kernel, stride, dilation, pads = geometry
    channels = x.shape[0] * 16
    flat = x.transpose(1, 2, 0, 3).reshape(x.shape[1], x.shape[2], channels).astype(np.int64)
    out = np.empty((len(rows) * width, kernel[0] * kernel[1], channels), np.int64)
    for p in range(len(out)):
        for t in range(kernel[0] * kernel[1]):
            y = rows[p // width] * stride[0] + t // kernel[1] * dilation[0] - pads[0]
            c = p % width * stride[1] + t % kernel[1] * dilation[1] - pads[1]
            inside = 0 <= y < x.shape[1] and 0 <= c < x.shape[2]
            out[p, t] = flat[y, c] if inside else pad
    return out


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def inputs(draw: st.DrawFn) -> tuple[NDArray[np.int8], tuple[Pair, Pair, Pair, Pair], range, int]:
    """Features as a strided view (gaps between rows and surfaces), geometry, rows, width."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    surfaces, rows, columns = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 6)),
        draw(st.integers(1, 9)),
    )
    memory = rng.integers(-128, 128, (surfaces + 1, rows + 2, columns + 3, 16), np.int8)
    x = memory[1:, 1:-1, 2:-1]
    if draw(st.booleans()):
        x = x[::-1, ::-1]
    pads = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    first, count = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    geometry = (draw(pairs), draw(pairs), draw(pairs), pads)
    return x, geometry, range(first, first + count), draw(st.integers(1, 12))


@settings(max_examples=50)
@given(inputs())
def test_gather(
    given_: tuple[NDArray[np.int8], tuple[Pair, Pair, Pair, Pair], range, int],
) -> None:
    x, geometry, rows, width = given_
    pad = np.arange(x.shape[0] * 16).astype(np.int16)
    wanted = windows(x, pad, geometry, rows, width)
    out = np.empty((len(wanted), wanted[0].size), np.int16)
    _units.gather(x, pad, out, *geometry, rows[0], width)
    np.testing.assert_array_equal(out, wanted.reshape(out.shape))


@given(st.integers(1, 9), st.integers(1, 70), st.integers(1, 5), st.integers(0, 99))
def test_product(rows: int, depth: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(-128, 128, (rows, 16 * depth), np.int16)
    b = rng.integers(-(1 << 13), 1 << 13, (4 * columns, 16 * depth), np.int16)
    out = np.empty((rows, 4 * columns), np.int32)
    _units.product(a, b, out)
    np.testing.assert_array_equal(out, a.astype(np.int64) @ b.T.astype(np.int64))


def test_product_refuses_wrong_arguments() -> None:
    a, out = np.zeros((3, 16), np.int16), np.zeros((3, 8), np.int32)
    for b in (np.zeros((8, 15), np.int16), np.zeros((4, 16), np.int16)):
        with pytest.raises(ValueError, match="shapes of a, b and out do not match"):
            _units.product(a, b, out)
    with pytest.raises(ValueError, match="shapes of a, b and out do not match"):
        _units.product(a, np.zeros((6, 16), np.int16), np.zeros((3, 6), np.int32))


@settings(max_examples=50)
@given(inputs())
def test_depthwise(
    given_: tuple[NDArray[np.int8], tuple[Pair, Pair, Pair, Pair], range, int],
) -> None:
    x, geometry, rows, width = given_
    channels = x.shape[0] * 16
    pad = np.arange(channels).astype(np.int8)
    rng = np.random.default_rng(channels)
    weights = rng.integers(
        -(1 << 15), 1 << 15, (geometry[0][0] * geometry[0][1], channels), np.int32
    )
    wanted = (windows(x, pad, geometry, rows, width) * weights).sum(1)
    out = np.empty((len(rows) * width, channels), np.int32)
    _units.depthwise(x, pad, weights, out, *geometry, rows[0], width)
    np.testing.assert_array_equal(out, wanted)


limits = st.sampled_from([(None, None), (0, None), (0, 5000)])


@st.composite
def arithmetics(draw: st.DrawFn) -> Arithmetic:
    """Everything that the C loop covers."""
    channels = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    use = draw(st.sampled_from([1, 5]))
    bs, bn = draw(limits), draw(limits)
    ew = None
    if draw(st.booleans()):
        low, high = draw(limits)
        scale = Scale(draw(st.integers(0, (1 << 15) - 1)), draw(st.integers(0, 15)))
        ew = Elementwise(
            "add", draw(st.integers(-99, 99)), scale, draw(st.booleans()), False, low, high
        )
    return Arithmetic(
        CoreTask(1, 1, 16, False, True, draw(st.integers(0, 4)), False),
        DpuTask(
            address=0,
            surface_bytes=0,
            width=1,
            height=1,
            channels=channels,
            padded_channels=48,
            depthwise=False,
            pend=-3,
            compensation=0,
            bs=Stage(
                "stream", draw(st.booleans()), Scale(1, 14) if use & 4 else None, bool(use & 4), *bs
            ),
            bn=Stage(
                draw(st.sampled_from([None, 700, -3000])), draw(st.booleans()), None, False, *bn
            ),
            ew=ew,
            output=Output(
                Scale(draw(st.integers(0, 0xFFFF)), draw(st.integers(0, 45))),
                draw(st.integers(-300, 300)),
                False,
                False,
            ),
        ),
        ChannelOperands(
            rng.integers(-(1 << 20), 1 << 20, channels),
            None,
            rng.integers(0, 1 << 15, channels) if use & 4 else None,
        ),
    )


@settings(max_examples=120)
@given(arithmetics(), st.sampled_from([100, 1 << 12, 1 << 24]), st.integers(0, 99))
def test_post(arithmetic: Arithmetic, magnitude: int, seed: int) -> None:
    assert arithmetic.fast
    rng = np.random.default_rng(seed)
    surfaces = -(-arithmetic.dpu.channels // 16)
    columns = arithmetic.dpu.channels + seed % 3
    values = rng.integers(-magnitude, magnitude + 1, (2 * 5, columns)).astype(np.int32)
    out = np.zeros((surfaces, 4, 5, 16), np.int8)
    operand = rng.integers(-128, 128, out.shape, np.int8) if arithmetic.dpu.ew else None
    process(arithmetic, 1, values, operand, out)
    taken = None if operand is None else operand[:, 1:3]
    np.testing.assert_array_equal(out[:, 1:3], general(arithmetic, values, taken, out.shape))
    assert not out[:, [0, 3]].any()


@given(st.integers(-(1 << 47), 1 << 47), st.integers(0, 40), st.booleans())
def test_round_shift(value: int, shift: int, ties_up: bool) -> None:
    low, rest = divmod(value, 1 << shift)
    half = 1 << shift >> 1
    up = rest > half or (rest == half and shift > 0 and (ties_up or low % 2 == 1))
    assert round_shift(np.array([value]), shift, ties_up)[0] == low + up


X, PAD = np.zeros((1, 4, 4, 16), np.int8), np.zeros(16, np.int16)
ONE, NONE = (1, 1), (0, 0)
STAGES = (1.0, 1.0, -1.0, 1.0, 0.0, -1.0, 1.0, -1.0, 1.0, 1.0, 0.0, 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((X, PAD, np.zeros((16, 15), np.int16), ONE, ONE, ONE, NONE, 0, 4), "shapes of features"),
        ((X, PAD[:15], np.zeros((16, 16), np.int16), ONE, ONE, ONE, NONE, 0, 4), "shapes of"),
        ((X, PAD, np.zeros((16, 16), np.float64), ONE, ONE, ONE, NONE, 0, 4), "out: has 2 dimen"),
        ((X[0], PAD, np.zeros((16, 16), np.int16), ONE, ONE, ONE, NONE, 0, 4), "features: has 3"),
        (
            (X[..., ::-1], PAD, np.zeros((16, 16), np.int16), ONE, ONE, ONE, NONE, 0, 4),
            "pixels must",
        ),
        (
            (X, PAD, np.zeros((16, 16), np.int16), NONE, ONE, ONE, NONE, 0, 4),
            "window: sizes must",
        ),
        (
            (X, PAD, np.zeros((16, 16), np.int16), ONE, ONE, ONE, NONE, -1, 4),
            "shapes of features",
        ),
    ],
)
def test_gather_refuses_wrong_arguments(arguments: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _units.gather(*arguments)


def test_depthwise_refuses_wrong_arguments() -> None:
    pad, out = np.zeros(16, np.int8), np.zeros((16, 16), np.int32)
    with pytest.raises(ValueError, match="shapes of features, pad, weights and out"):
        _units.depthwise(X, pad, np.zeros((2, 16), np.int32), out, ONE, ONE, ONE, NONE, 0, 4)
    with pytest.raises(ValueError, match="weights: has 2 dimensions of 'f', must have 2 of 'i'"):
        _units.depthwise(X, pad, np.zeros((1, 16), np.float32), out, ONE, ONE, ONE, NONE, 0, 4)


@pytest.mark.parametrize(
    ("rows", "first", "channels", "text"),
    [(5, 0, 16, "shapes"), (4, 1, 16, "shapes"), (4, 0, 17, "shapes"), (4, 0, 0, "shapes")],
)
def test_post_refuses_wrong_arguments(rows: int, first: int, channels: int, text: str) -> None:
    acc = np.zeros((rows * 4, 16), np.int32)
    with pytest.raises(ValueError, match=text):
        _units.post(acc, np.zeros(16), None, None, None, X.copy(), STAGES, first, channels)
