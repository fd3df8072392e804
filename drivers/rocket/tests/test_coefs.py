"""Packed weights and biases, read back by a reader that walks the documented order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.ir.types import Array
from teflon_common.quantize import nearest_multiplier
from teflon_rocket.exact.scales import (
    Bounds,
    Window,
    bounds,
    early_clamps,
    pad_word,
    threshold_high,
    threshold_low,
)
from teflon_rocket.mesa.coefs import pack_weights_mesa, weights_size
from teflon_rocket.operations.convolution.coefs import (
    Coefs,
    pack_weights,
    wrap32,
    zero_point_correction,
)

# Ref: docs/hardware/rocket.md §4.3, "What the hardware expects" and examples A and B


def order(kernels: int, taps: int, channels: int, group: int) -> Iterator[tuple[int, int, int]]:
    """(kernel, tap, channel) of each byte in the hardware's order; channels padded."""
    for first in range(0, kernels, 32):
        for start in range(0, channels, group):
            row = next(r for r in (16, 32, 64) if r >= min(group, channels - start))
            for tap in range(taps):
                for kernel in range(first, min(first + 32, kernels)):
                    for channel in range(start, start + row):
                        yield kernel, tap, channel


def unpacked(packed: Array, kernels: int, taps: int, channels: int, depthwise: bool) -> Array:
    """The weights of packed bytes, [kernels, taps, channels with padding]."""
    places = list(order(kernels, taps, channels, 64 if depthwise else 32))
    out = np.zeros((kernels, taps, max(channel for *_, channel in places) + 1), np.uint8)
    assert len(places) == len(packed)
    for place, byte in zip(places, packed.tolist(), strict=True):
        out[place] = byte ^ 0x80
    return out


@pytest.mark.parametrize("channels", [16, 32, 64, 80])
def test_weights_may_lie_in_another_order_in_memory(channels: int) -> None:
    weights = np.random.default_rng(channels).integers(0, 256, (channels, 9, 34), np.uint8)
    turned = weights.transpose(2, 1, 0)
    wanted = pack_weights(np.ascontiguousarray(turned), 7, False)
    assert np.array_equal(pack_weights(turned, 7, False), wanted)


@given(st.integers(1, 70), st.integers(1, 6), st.integers(1, 100), st.integers(0, 255))
def test_direct_weights(kernels: int, taps: int, channels: int, zero: int) -> None:
    rng = np.random.default_rng(channels)
    weights = rng.integers(0, 256, (kernels, taps, channels), np.uint8)
    even = kernels + kernels % 2
    packed = pack_weights(weights, zero, False)
    back = unpacked(packed, even, taps, channels, False)
    assert (back[:kernels, :, :channels] == weights).all()
    assert (back[:kernels, :, channels:] == zero).all()
    assert (back[kernels:] == 0x80).all()  # stored as 0
    assert len(packed) <= weights_size(even, taps, channels)


@given(st.integers(1, 9), st.integers(2, 200), st.integers(0, 255))
def test_depthwise_weights(taps: int, channels: int, zero: int) -> None:
    weights = np.random.default_rng(taps).integers(0, 256, (1, taps, channels), np.uint8)
    packed = pack_weights(weights, zero, True)
    back = unpacked(packed, 1, taps, channels, True)
    assert (back[:, :, :channels] == weights).all()
    assert (back[:, :, channels:] == zero).all()


def test_example_a() -> None:
    weights = np.array([[[200, 1, 128]], [[10, 10, 255]]], np.uint8)
    packed = pack_weights(weights, 10, False).tobytes()
    assert packed == bytes.fromhex("488100") + b"\x8a" * 13 + bytes.fromhex("8a8a7f") + b"\x8a" * 13
    assert weights_size(2, 1, 3) == 128


def test_example_b() -> None:
    assert len(pack_weights(np.zeros((1, 9, 72), np.uint8), 1, True)) == 720
    assert weights_size(1, 9, 72) == 1728


@pytest.mark.parametrize("channels", [2, 16, 24, 32, 63, 64, 80, 96, 120, 144])
def test_mesa_agrees_where_it_is_right(channels: int) -> None:
    weights = np.random.default_rng(1).integers(0, 256, (1, 9, channels), np.uint8)
    assert (pack_weights_mesa(weights, 7, True) == pack_weights(weights, 7, True)).all()


@pytest.mark.parametrize("channels", [33, 40, 48, 88, 100, 112])
def test_mesa_differs_where_it_is_wrong(channels: int) -> None:
    weights = np.random.default_rng(1).integers(0, 256, (1, 9, channels), np.uint8)
    theirs, ours = pack_weights_mesa(weights, 7, True), pack_weights(weights, 7, True)
    assert len(theirs) != len(ours)


@given(st.integers(0, 255), st.integers(0, 255), st.booleans())
def test_correction_makes_shifted_sums_right(weight_zero: int, zero: int, depthwise: bool) -> None:
    """Σ(x-z)(w-z_w) = Σx'w' + (128-z_w)Σx' - correction, with x' = x-128, w' = w-128 (§4.6)."""
    rng = np.random.default_rng(weight_zero)
    weights = rng.integers(0, 256, (1, 4, 5) if depthwise else (3, 4, 5), np.uint8)
    x = rng.integers(0, 256, (4, 5)).astype(np.int64)
    axes = (0,) if depthwise else (1, 2)
    w = weights.astype(np.int64)
    if depthwise:
        w = w[0]
    want = ((x - zero) * (w - weight_zero)).sum(axis=axes)
    raw = ((x - 128) * (w - 128)).sum(axis=axes)
    window = (x - 128).sum(axis=0 if depthwise else None)
    have = raw + (128 - weight_zero) * window
    assert (have - zero_point_correction(weights, weight_zero, zero, depthwise) == want).all()


def test_bias_wraps_as_32_bits() -> None:
    assert wrap32(np.array([2**31, -(2**31) - 1, 5], np.int64)).tolist() == [-(2**31), 2**31 - 1, 5]


@given(st.floats(1e-9, 1e4))
def test_nearest_multiplier(real: float) -> None:
    found = nearest_multiplier(real, 15)
    assert 0x4000 <= found.multiplier <= 0x7FFF
    assert abs(found.real - real) <= real * 2**-15


@given(st.floats(1e-6, 0.9), st.integers(-255, 255))
def test_thresholds_are_where_the_result_changes(real: float, steps: int) -> None:
    """The thresholds are the same whether ties are rounded to even or up."""
    factor = nearest_multiplier(real, 15)

    def rounded(v: int) -> int:
        product, shift = v * factor.multiplier, factor.shift
        return (product + (1 << (shift - 1)) - 1 + ((product >> shift) & 1)) >> shift

    low, high = threshold_low(factor, steps), threshold_high(factor, steps)
    assert rounded(low) >= steps
    assert rounded(low - 2) < steps
    assert rounded(high) <= steps
    assert rounded(high + 2) > steps


@pytest.mark.parametrize(
    ("zero", "word"), [(0, 0xFFFF8080), (0x8B, 0x0B0B), (0x84, 0x0404), (255, 0x7F7F)]
)
def test_pad_word_holds_the_byte_twice(zero: int, word: int) -> None:
    assert pad_word(zero) == word


def test_bounds_hold_for_every_input() -> None:
    rng = np.random.default_rng(5)
    weights = rng.integers(0, 256, (4, 9, 3), np.uint8)
    bias = rng.integers(-999, 999, 4).astype(np.int64)
    reach = bounds(Coefs(weights, 100, bias, input_zero=30, depthwise=False))
    extreme = np.where(weights.astype(int) > 100, 225, -30)
    sums = (extreme * (weights.astype(int) - 100)).sum(axis=(1, 2)) + bias
    assert reach.high == sums.max()
    assert reach.low < -30 * 9


@given(
    st.one_of(st.none(), st.integers(-900, 900)),
    st.one_of(st.none(), st.integers(-900, 900)),
    st.integers(-2000, 2000),
)
def test_clamps_do_what_the_window_says(low: int | None, high: int | None, v: int) -> None:
    """BS: v - origin, ReLU, ReLUX; BN: + shift. Equal to max and min."""
    if low is not None and high is not None and low > high:
        low, high = high, low
    clamps = early_clamps(Window(low, high), Bounds(-2000, 2000), "here")
    have = v - clamps.origin
    if clamps.relu:
        have = max(have, 0)
    if clamps.ceiling is not None:
        assert clamps.relu
        have = min(have, clamps.ceiling)
    want = v if low is None else max(v, low)
    assert have + clamps.shift == (want if high is None else min(want, high))


def test_the_order_in_memory_does_not_matter() -> None:
    weights = np.random.default_rng(1).integers(0, 256, (1, 9, 128), np.uint8)
    turned = np.asfortranarray(weights)
    assert (pack_weights(turned, 7, True) == pack_weights(weights, 7, True)).all()
