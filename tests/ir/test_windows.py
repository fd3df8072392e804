"""Sums over windows against loops over single products; the choice of an exact type."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.ir import windows
from teflon.ir.types import Array, Padding

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
TYPES: st.SearchStrategy[npt.DTypeLike] = st.sampled_from([np.float32, np.float64, np.int64])


def numbers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(-128, 128, shape)


@given(PAIRS, PAIRS, PAIRS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), TYPES)
def test_convolve(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], depth: int,
    groups: int, per_group: int, dtype: npt.DTypeLike,
) -> None:  # fmt: skip
    x = numbers(1, 2, 7, 8, depth * groups)
    w = numbers(2, groups * per_group, *kernel, depth)
    have = windows.convolve(x.astype(dtype), w.astype(dtype), stride, dilation)
    rows, columns = Padding().output((7, 8), kernel, stride, dilation)
    want = np.zeros((2, rows, columns, len(w)), np.int64)
    for n, i, j, o in np.ndindex(*want.shape):
        part = slice(o // per_group * depth, o // per_group * depth + depth)
        for ky, kx in np.ndindex(*kernel):
            y, z = i * stride[0] + ky * dilation[0], j * stride[1] + kx * dilation[1]
            want[n, i, j, o] += x[n, y, z, part] @ w[o, ky, kx]
    assert have.dtype == dtype
    assert np.array_equal(have, want)


@given(PAIRS, PAIRS, PAIRS, st.integers(1, 3), st.integers(1, 3))
def test_convolve_depthwise(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], channels: int,
    multiplier: int,
) -> None:  # fmt: skip
    x, w = numbers(1, 1, 7, 8, channels), numbers(2, 1, *kernel, channels * multiplier)
    have = windows.convolve_depthwise(x, w, stride, dilation)
    want = np.zeros_like(have)
    for _, i, j, o in np.ndindex(*want.shape):
        for ky, kx in np.ndindex(*kernel):
            y, z = i * stride[0] + ky * dilation[0], j * stride[1] + kx * dilation[1]
            want[0, i, j, o] += x[0, y, z, o // multiplier] * w[0, ky, kx, o]
    assert np.array_equal(have, want)


@given(PAIRS, PAIRS, st.tuples(st.integers(0, 2), st.integers(0, 2)), PAIRS)
def test_convolve_transposed(
    kernel: tuple[int, int], stride: tuple[int, int], origin: tuple[int, int], more: tuple[int, int]
) -> None:
    x, w = numbers(1, 1, 3, 4, 2), numbers(2, 5, *kernel, 2)
    size = (3 * stride[0] + more[0] - 1, 4 * stride[1] + more[1] - 1)
    have = windows.convolve_transposed(x, w, stride, origin, size)
    want = np.zeros((1, *size, 5), np.int64)
    for i, j in itertools.product(range(3), range(4)):
        for ky, kx in np.ndindex(*kernel):
            y, z = i * stride[0] + ky - origin[0], j * stride[1] + kx - origin[1]
            if 0 <= y < size[0] and 0 <= z < size[1]:
                want[0, y, z] += w[:, ky, kx] @ x[0, i, j]
    assert np.array_equal(have, want)


@pytest.mark.parametrize(
    ("bound", "dtype"),
    [(0, np.float32), (2**24, np.float32), (2**24 + 1, np.float64), (2**53, np.float64),
     (2**53 + 1, np.int64)],
)  # fmt: skip
def test_exact_type(bound: int, dtype: npt.DTypeLike) -> None:
    assert windows.exact_type(bound) is dtype


def test_the_bound_is_reached_and_held_exactly() -> None:
    """The worst input for given weights gives the bound itself, in the type it picks."""
    weights = np.where(np.arange(4 * 900) % 2, 127, -128).reshape(4, 20, 15, 3)
    bound = windows.largest_sum(np.array([-255, 255]), weights)
    dtype = windows.exact_type(bound)
    assert dtype is np.float64
    x = np.sign(weights[:1]).astype(dtype) * 255
    sums = windows.convolve(x, weights.astype(dtype), (1, 1), (1, 1))
    assert int(sums[0, 0, 0, 0]) == bound == 255 * (127 * 450 + 128 * 450)


def test_padding_keeps_the_image_where_there_is_none() -> None:
    image = numbers(0, 1, 2, 2, 1)
    assert windows.pad_image(image, Padding()) is image
    padded = windows.pad_image(image, Padding(1, 0, 0, 2), 7)
    assert padded.shape == (1, 3, 4, 1)
    assert np.array_equal(padded[:, 1:, :2], image)
    assert padded[0, 0].tolist() == [[7]] * 4
