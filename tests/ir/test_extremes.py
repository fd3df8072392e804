"""The C loops on the largest numbers that they can meet, against sums of 64 bits, wrapped at 32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from teflon.ir import _eight, eight
from teflon_etnaviv.simulator import _macs
from teflon_rocket.simulator import _units

I64 = npt.NDArray[np.int64]
ONE = ((1, 1), (1, 1), (1, 1), (0, 0))
LAST = (0, 1, 1)
DEPTHS = [2, 1024, 33024, 33026, 66052]
"""From 33026 on, products of 255 and 255 leave 31 bits; the last leaves 32."""


def wrapped(total: I64) -> npt.NDArray[np.int32]:
    """Sums as the loops keep them."""
    return total.astype(np.uint32).view(np.int32)


def high_bytes(total: I64) -> list[int]:
    """What 2^-24 of a wrapped sum is as a byte around 128, halves to even."""
    return [min(max(int(np.rint(int(n) / 2**24)) + 128, 0), 255) for n in wrapped(total)]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("weight", [-32768, -255, 0, 255, 32767])
@pytest.mark.parametrize("value", [-128, 127])
def test_rocket_convolve(depth: int, weight: int, value: int) -> None:
    surfaces = -(-depth // 16)
    x = np.full((surfaces, 1, 1, 16), value, np.int8)
    panel = np.full((1, surfaces * 8, 32), weight, np.int16)
    out = np.empty((1, 16), np.int32)
    _units.convolve(x, np.zeros(surfaces * 16, np.int16), panel, *ONE, LAST, None, out)
    wanted = wrapped(np.full(16, surfaces * 16 * value * weight, np.int64))
    assert out[0].tolist() == wanted.tolist()


@pytest.mark.parametrize("side", [1, 15, 300])
@pytest.mark.parametrize("weight", [-(2**31), -383, 383, 2**31 - 1])
@pytest.mark.parametrize("value", [-128, 127])
def test_rocket_depthwise(side: int, weight: int, value: int) -> None:
    x = np.full((1, side, side, 16), value, np.int8)
    weights = np.full((1, side * side, 16), weight, np.int32)
    out = np.empty((1, 16), np.int32)
    pad = np.zeros(16, np.int16)
    _units.depthwise(x, pad, weights, (side, side), *ONE[1:], LAST, None, out)
    total = sum([value * weight] * (side * side)) % 2**32
    assert out[0].tolist() == wrapped(np.full(16, total, np.int64)).tolist()


LARGE = 2**31 - 1


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("factors", [None, np.ones(16)])
def test_rocket_post(sign: int, factors: Any) -> None:
    """Sums that a caller did not bound are wrong numbers, no undefined ones."""
    x, out = np.full((1, 1, 1, 16), 127, np.int8), np.zeros((1, 1, 1, 16), np.int8)
    bias, table = np.full(16, sign * LARGE, np.int32), np.full(256, sign * LARGE, np.int32)
    clamps = (-LARGE, LARGE, -LARGE, LARGE)
    stages = (1.0, sign * LARGE, *clamps, 1.0, sign * LARGE, 0)
    post = (bias, factors, x, table, stages, 16, None)
    panel, pad = np.full((1, 8, 32), sign, np.int16), np.zeros(16, np.int16)
    _units.convolve(x, pad, panel, *ONE, LAST, post, out)
    total = sign * 127 * 16
    for number in (LARGE, 0 if factors is None else LARGE, LARGE, LARGE):
        total = int(wrapped(np.array([total + sign * number]))[0])
    assert out.reshape(-1).tolist() == [min(max(total, -128), 127)] * 16


def eight_end(outputs: int) -> tuple[Any, ...]:
    """2^-24 of a sum, around 128, as bytes."""
    lanes = np.zeros(outputs, np.int32)
    return (lanes, lanes + 2**30, lanes, lanes + 23, 128, 0, 255)


@pytest.mark.parametrize("shape", [(1, 1, depth) for depth in DEPTHS] + [(9, 9, 1), (257, 257, 1)])
@pytest.mark.parametrize("weight", [-255, 255])
@pytest.mark.parametrize(("value", "zero"), [(0, 255), (255, 0), (255, -128)])
def test_eight(shape: tuple[int, int, int], weight: int, value: int, zero: int) -> None:
    x = np.full(shape, value, np.uint8)
    packed = eight.pack_depthwise if shape[2] == 1 else eight.pack
    kernel = packed(np.full((1, *shape), weight, np.int16))
    out = np.empty((1, 1, 1), np.uint8)
    kernel.loop(x, zero, kernel.weights, kernel.size, *ONE[1:], LAST, eight_end(16), out)
    total = np.full(1, x.size * (value - zero) * weight, np.int64)
    number = int(wrapped(total)[0])
    high = (number * 2**30 + 2**30) >> 31  # rounded at both steps, the second away from zero
    rest, mask = high & (2**23 - 1), 2**23 - 1
    wanted = (high >> 23) + (rest > (mask >> 1) + (high < 0))
    assert out[0, 0, 0] == min(max(wanted + 128, 0), 255)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("weight", "zero"), [(0, 255), (255, 0), (255, 255), (0, 128)])
@pytest.mark.parametrize("value", [0, 255])
def test_etnaviv_dense(plain: bool, depth: int, weight: int, zero: int, value: int) -> None:
    out, image = np.zeros(20, np.uint8), np.full(20, value, np.uint8)
    bias = np.array([0, 2**31 - 1, -(2**31), 5], np.int32)
    places = np.array([0, -1, -1, -1])
    for n in range(4):
        _macs.dense(
            image, np.zeros(depth, np.int32), np.full(4 * depth, weight, np.uint8),
            np.roll(bias, -n), places, out, zero, (1, 20, 20, 20), (1, 24, False, 128, True),
            (0, 2), (0, 1), plain,
        )  # fmt: skip
        total = np.full(20, depth * (weight - zero) * value + int(bias[n]), np.int64)
        assert out.tolist() == high_bytes(total)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("depth", [1, *DEPTHS])
@pytest.mark.parametrize("factor", [-255, 255])
def test_etnaviv_single(plain: bool, depth: int, factor: int) -> None:
    out, image = np.zeros(20, np.uint8), np.full(20, 255, np.uint8)
    _macs.single(
        image, np.zeros(1, np.int64), np.zeros(depth, np.int32), np.full(depth, factor, np.int16),
        np.array([-7], np.int32), np.zeros(1, np.int64), out, (1, 20, 20, 20),
        (1, 24, False, 128, True), (0, 1), plain,
    )  # fmt: skip
    assert out.tolist() == high_bytes(np.full(20, depth * factor * 255 - 7, np.int64))


def test_rows_far_outside_of_an_image() -> None:
    """Places of rows are products of what a caller gives; those beyond the image are not formed."""
    most = 1 << 24
    x = np.full((1, 1 << 12, 1 << 12), 9, np.uint8)
    panel = np.full((1, 1 << 11, 32), 1, np.int16)
    end = eight_end(16)
    out = np.zeros((most, 1, 1), np.uint8)
    geometry = ((1, 1), (most, 1), (1, 1), (0, 0))
    _eight.convolve(x, 9, panel, *geometry, (most - 2, 2, 1), end, out)
    assert out[-3:, 0, 0].tolist() == [0, 128, 128]
