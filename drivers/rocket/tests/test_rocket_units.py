"""The C loops of the simulated units against numpy, exactly."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from teflon import workers
from teflon.errors import SimulatorFault
from teflon_rocket.simulator import _units
from teflon_rocket.simulator.core import Accumulator, CoreTask, prepare
from teflon_rocket.simulator.cube import Window
from teflon_rocket.simulator.dpu import DpuTask, Write
from teflon_rocket.simulator.loops import loop
from teflon_rocket.simulator.operands import ChannelOperands
from teflon_rocket.simulator.post import INT32, Arithmetic, general
from teflon_rocket.simulator.ranges import Reach, check_range
from teflon_rocket.simulator.rounding import round_shift
from teflon_rocket.simulator.stages import Elementwise, Lut, Output, Scale, Stage
from teflon_rocket.simulator.tables import ENTRIES, Tables

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


def panels(matrix: NDArray[np.int64]) -> NDArray[np.int16]:
    """[(tap, channel), kernel] as the loop wants it, kernel by kernel."""
    inside, kernels = matrix.shape
    out = np.zeros((-(-kernels // 16), inside // 2, 32), np.int16)
    for k in range(kernels):
        out[k // 16, :, k % 16 * 2] = matrix[::2, k]
        out[k // 16, :, k % 16 * 2 + 1] = matrix[1::2, k]
    return out


Inputs = tuple[NDArray[np.int8], tuple[Pair, Pair, Pair, Pair], range, int]


@settings(max_examples=60)
@given(inputs(), st.integers(1, 40))
def test_convolve(given_: Inputs, kernels: int) -> None:
    x, geometry, rows, width = given_
    pad = np.arange(x.shape[0] * 16).astype(np.int16)
    seen = windows(x, pad, geometry, rows, width)
    seen = seen.reshape(len(seen), -1)
    rng = np.random.default_rng(kernels)
    weights = rng.integers(-(1 << 13), 1 << 13, (seen.shape[1], kernels))
    out = np.empty((len(seen), -(-kernels // 16) * 16), np.int32)
    where = (rows[0], len(rows), width)
    _units.convolve(x, pad, panels(weights), *geometry, where, None, out)
    np.testing.assert_array_equal(out[:, :kernels], seen @ weights)
    assert not out[:, kernels:].any()


@settings(max_examples=60)
@given(inputs())
def test_depthwise(given_: Inputs) -> None:
    x, geometry, rows, width = given_
    channels = x.shape[0] * 16
    pad = np.arange(channels).astype(np.int16)
    rng = np.random.default_rng(channels)
    taps = geometry[0][0] * geometry[0][1]
    weights = rng.integers(-(1 << 15), 1 << 15, (taps, channels), np.int32)
    wanted = (windows(x, pad, geometry, rows, width) * weights).sum(1)
    by_surface = np.stack([weights[:, u : u + 16] for u in range(0, channels, 16)])
    out = np.empty((len(rows) * width, channels), np.int32)
    where = (rows[0], len(rows), width)
    _units.depthwise(x, pad, by_surface, *geometry, where, None, out)
    np.testing.assert_array_equal(out, wanted)


@settings(max_examples=40)
@given(inputs(), st.sampled_from([10, 70000]))
def test_weights_beyond_16_bits(given_: Inputs, compensation: int) -> None:
    x, geometry, rows, width = given_
    kernel, stride, dilation, pads = geometry
    rng = np.random.default_rng(width)
    raw = rng.integers(-128, 128, (*kernel, x.shape[0] * 16, 5), np.int8)
    kernels = prepare(raw, np.full(5, compensation), False)
    assert kernels.wide == (compensation > 40000)
    pad = np.resize(np.array([3, -7]), x.shape[0] * 16)
    seen = windows(x, pad, geometry, rows, width)
    accumulator = Accumulator(
        x, Window(kernel, stride, dilation, pads, (3, -7)), kernels, width, 99
    )
    wanted = seen.reshape(len(seen), -1) @ (raw.reshape(-1, 5).astype(np.int64) + compensation)
    np.testing.assert_array_equal(accumulator.sums(rows)[:, :5], wanted)


limits = st.sampled_from([(None, None), (0, None), (0, 5000)])
HERE = Write(0, 0, 0)


def shifts(draw: st.DrawFn, most: int = 20) -> tuple[int, int | None]:
    return draw(st.integers(0, most)), draw(st.sampled_from([None, 0, 3, 17]))


@st.composite
def first_stages(draw: st.DrawFn) -> Stage:
    """BS: an addition, a multiplication with two shifts or one, a clamp."""
    add: Any = draw(st.sampled_from([None, "stream", 70, -3000]))
    kind = draw(st.sampled_from(["none", "register", "stream"]))
    scale = None
    if kind != "none":
        scale = Scale(1 if kind == "stream" else draw(st.integers(0, 1 << 14)), *shifts(draw))
    return Stage(add, draw(st.booleans()), scale, kind == "stream", *draw(limits))


@st.composite
def second_stages(draw: st.DrawFn) -> Stage:
    """BN: a multiplication, an addition, one shift; or a factor for negative values only."""
    kind = draw(st.sampled_from(["off", "add", "stream", "multiply", "prelu", "prelu stream"]))
    low, high = draw(limits)
    if kind in ("off", "add"):
        added: Any = draw(st.sampled_from([700, -3000, "stream"])) if kind == "add" else None
        return Stage(added, draw(st.booleans()), None, False, low, high, False, True)
    factor = draw(st.integers(-(1 << 14), 1 << 14)) if "stream" not in kind else 1
    if "prelu" in kind:
        scale = Scale(factor, draw(st.integers(0, 15)))
        return Stage(None, False, scale, "stream" in kind, low, high, True, True)
    add: Any = draw(st.sampled_from([None, "stream", 1 << 29]))
    scale = Scale(factor, draw(st.integers(0, 20)))
    return Stage(add, draw(st.booleans()), scale, kind == "stream", low, high, False, True)


@st.composite
def elementwises(draw: st.DrawFn) -> Elementwise:
    low, high = draw(limits)
    scale = Scale(draw(st.integers(-(1 << 15), (1 << 15) - 1)), draw(st.integers(0, 15)))
    operation = draw(st.sampled_from(["add", "subtract", "max", "min", "multiply"]))
    return Elementwise(
        operation, draw(st.integers(-99, 99)), scale, draw(st.booleans()), False, low, high
    )


def tables(seed: int) -> Tables:
    rng = np.random.default_rng(seed)
    low, high = (rng.integers(-(1 << 15), 1 << 15, ENTRIES).astype("<i2") for _ in range(2))
    return Tables(low.tobytes(), high.tobytes())


@st.composite
def arithmetics(draw: st.DrawFn) -> Arithmetic:
    """Everything that the C loop covers."""
    channels = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    ew, lut = draw(st.one_of(st.none(), elementwises())), None
    if ew is None and draw(st.booleans()):
        slopes = [Scale(draw(st.integers(0, (1 << 15) - 1)), draw(st.integers(0, 31)))
                  for _ in range(2)]  # fmt: skip
        lut = Lut(slopes[0], slopes[1], draw(st.booleans()))
    scale = Scale(draw(st.integers(-(1 << 15), (1 << 15) - 1)), draw(st.integers(0, 45)))
    return Arithmetic(
        CoreTask(1, 1, 16, False, True, draw(st.integers(0, 4)), False),
        DpuTask(
            HERE, 1, 1, channels, 48, False, -3, 0, draw(first_stages()), draw(second_stages()), ew,
            Output(scale, draw(st.integers(-300, 300)), False, False), lut,
        ),
        ChannelOperands(
            rng.integers(-(1 << 20), 1 << 20, channels),
            None,
            rng.integers(0, 1 << 15, channels),
            rng.integers(-(1 << 30), 1 << 30, channels),
            rng.integers(-(1 << 15), 1 << 15, channels),
        ),
        None if lut is None else tables(channels),
    )  # fmt: skip


def unsaturated(arithmetic: Arithmetic, reach: Reach, more: int) -> Arithmetic:
    """The same with an output converter that shifts the largest values to some 7 bits and more."""
    if more == 0:
        return arithmetic
    output = arithmetic.dpu.output
    bits = reach.after.bit_length() + abs(output.scale.multiplier).bit_length()
    scale = Scale(output.scale.multiplier, min(max(bits - 7 - more, 0), 60))
    dpu = dataclasses.replace(arithmetic.dpu, output=dataclasses.replace(output, scale=scale))
    return dataclasses.replace(arithmetic, dpu=dpu)


@settings(max_examples=600)
@given(arithmetics(), st.sampled_from([1, 40, 3000]), st.booleans(), st.integers(0, 99))
def test_post(arithmetic: Arithmetic, magnitude: int, depthwise: bool, seed: int) -> None:
    """The loop behind sums, in blocks of rows, against the stages in int64."""
    rng = np.random.default_rng(seed)
    channels = arithmetic.dpu.channels
    surfaces = -(-channels // 16)
    x = rng.integers(-128, 128, (surfaces, 4, 5, 16), np.int8)
    shape = (1, 1, 16 * surfaces, 1 if depthwise else channels)
    weights = np.clip(rng.integers(-magnitude, magnitude + 1, shape), -128, 127).astype(np.int8)
    kernels = prepare(weights, np.array([magnitude]), depthwise)
    out = np.zeros((surfaces, 4, 5, 16), np.int8)
    operand = rng.integers(-128, 128, out.shape, np.int8) if arithmetic.dpu.ew else None
    one = Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    accumulator = Accumulator(x, one, kernels, 5, 4)
    reach = check_range(arithmetic, kernels.bound)
    arithmetic = unsaturated(arithmetic, reach, seed % 8)
    made = loop(arithmetic, reach)
    assert made is not None
    sums = accumulator.sums(range(4))
    try:
        wanted = general(arithmetic, sums, operand, out.shape)
    except SimulatorFault as fault:
        assert not reach.proven
        reached = int(re.findall(r"\d+", str(fault))[0])
        with pytest.raises(OverflowError) as seen:
            accumulator.process(range(4), made.with_operand(operand), out)
        assert int(str(seen.value)) >= reached > INT32
        return
    for rows in workers.rows(4, 3):
        accumulator.process(rows, made.with_operand(operand), out)
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize(
    ("before", "behind", "offset", "covered"),
    [
        ((1 << 31) - 1, (1 << 31) - 1, 1 << 29, "plain"),
        (1 << 31, 5, 0, "rich"),
        (5, 1 << 31, 0, "rich"),
        (5, 5, -(1 << 29) - 1, "none"),
    ],
)
def test_integers_of_32_bits_are_left_where_they_might_not_do(
    before: int, behind: int, offset: int, covered: str
) -> None:
    plain = Arithmetic(
        CoreTask(1, 1, 16, False, True, 0, False),
        DpuTask(HERE, 1, 1, 16, 16, False, 0, 0, Stage(), Stage(), None,
                Output(Scale(1, 0), offset, False, False)),
        ChannelOperands(None, None, None),
    )  # fmt: skip
    made = loop(plain, Reach(before, behind))
    assert ("none" if made is None else "rich" if made.rich else "plain") == covered


@given(st.integers(-(1 << 47), 1 << 47), st.integers(0, 40), st.booleans())
def test_round_shift(value: int, shift: int, ties_up: bool) -> None:
    low, rest = divmod(value, 1 << shift)
    half = 1 << shift >> 1
    up = rest > half or (rest == half and shift > 0 and (ties_up or low % 2 == 1))
    assert round_shift(np.array([value]), shift, ties_up)[0] == low + up


X, PAD = np.zeros((1, 4, 4, 16), np.int8), np.zeros(16, np.int16)
PANEL, OUT = np.zeros((1, 8, 32), np.int16), np.zeros((16, 16), np.int32)
ONE, ALL = ((1, 1), (1, 1), (1, 1), (0, 0)), (0, 4, 4)
ZERO = ((0, 1), *ONE[1:])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((X, PAD[:15], PANEL, *ONE, ALL, None, OUT), "convolve: shapes of features, pad and wei"),
        ((X, PAD, PANEL[:, :7], *ONE, ALL, None, OUT), "weights: .*contiguous|shapes of features"),
        ((X, PAD, np.zeros((1, 8, 16), np.int16), *ONE, ALL, None, OUT), "shapes of features"),
        ((X, PAD, PANEL.astype(np.float32), *ONE, ALL, None, OUT), "weights: has 3 dim.* of 'f'"),
        ((X, PAD, PANEL, *ONE, ALL, None, OUT[:15]), "out: shape does not match"),
        ((X, PAD, PANEL, *ONE, ALL, None, np.zeros((16, 32), np.int32)), "out: shape does not"),
        ((X, PAD, PANEL, *ONE, ALL, None, OUT.astype(np.float64)), "out: has 2 dimensions of 'd'"),
        ((X[0], PAD, PANEL, *ONE, ALL, None, OUT), "features: has 3"),
        ((X[..., ::-1], PAD, PANEL, *ONE, ALL, None, OUT), "pixels must"),
        ((X, PAD, PANEL, *ZERO, ALL, None, OUT), "window: a size is not positive"),
        ((X, PAD, PANEL, *ONE, (-1, 4, 4), None, OUT), "window: a size is not positive"),
        ((X, PAD, PANEL, *ONE, (0, 4, 1 << 25), None, OUT), "window: .* above 16777216"),
    ],
)
def test_convolve_refuses_wrong_arguments(arguments: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _units.convolve(*arguments)


def test_depthwise_refuses_wrong_arguments() -> None:
    for shape in ((2, 1, 16), (1, 2, 16), (1, 1, 32)):
        with pytest.raises(ValueError, match="depthwise: shapes of features, pad and weights"):
            _units.depthwise(X, PAD, np.zeros(shape, np.int32), *ONE, ALL, None, OUT)
    with pytest.raises(ValueError, match="weights: has 3 dimensions of 'h', must have 3 of 'i'"):
        _units.depthwise(X, PAD, np.zeros((1, 1, 16), np.int16), *ONE, ALL, None, OUT)


STAGES = (1.0, 0, -9, 9, -9, 9, 1.0, 0, 0)
BIAS, TABLE = np.zeros(16, np.int32), np.zeros(256, np.int32)


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        ({5: 17}, ALL),
        ({5: 0}, ALL),
        ({0: np.zeros(32, np.int32)}, ALL),
        ({1: np.zeros(15)}, ALL),
        ({2: X[:, :3], 3: TABLE}, ALL),
        ({2: X, 3: TABLE[:255]}, ALL),
        ({2: np.zeros((1, 4, 5, 16), np.int8)[:, :, :4], 3: TABLE}, ALL),
        ({}, (1, 4, 4)),
        ({}, (0, 4, 3)),
    ],
)
def test_post_refuses_wrong_arguments(change: dict[int, Any], rows: tuple[int, int, int]) -> None:
    given_: list[Any] = [BIAS, None, None, None, STAGES, 16]
    for index, value in change.items():
        given_[index] = value
    with pytest.raises(ValueError, match="post: shapes of operands, window and out do not match"):
        _units.convolve(X, PAD, PANEL, *ONE, rows, tuple(given_), X.copy())
