"""Numbers at the ends of what the C loops take, and sizes that no buffer has."""

from __future__ import annotations

import numpy as np
import pytest

from teflon_etnaviv import _coefs
from teflon_etnaviv.simulator import _macs, _moves, _units

BEYOND = "sizes of the buffers disagree"


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("multiplier", [1, 3, 5, 7])
def test_the_sum_that_has_no_negative(plain: bool, multiplier: int) -> None:
    """2^-32 of -2^31 is a half, where its neighbour is none."""
    sums = np.array([-(2**31), -(2**31) + 1, 2**31 - 1, 0], np.int32)
    out = np.zeros(4, np.uint8)
    _macs.single(
        np.zeros(1, np.uint8), np.zeros(4, np.int64), np.zeros(1, np.int32), np.zeros(4, np.int16),
        sums, np.arange(4), out, (1, 1, 1, 1), (multiplier, 32, False, 100, True), (0, 4), plain,
    )  # fmt: skip
    assert out.tolist() == [100 + round(int(n) * multiplier / 2**32) for n in sums]


@pytest.mark.parametrize(
    "sizes",
    [(2, 1 << 62, 4, 1), (2, 1, 1 << 62, 1), (1 << 61, 1, 4, 1), (3, 1, 1, 1), (2, 3, 1, 1)],
)
@pytest.mark.parametrize("compact", [False, True])
def test_kernels_that_no_buffer_holds(sizes: tuple[int, int, int, int], compact: bool) -> None:
    """Also where the product of the sizes is beyond 64 bits."""
    stream, places, words = bytes([8, 2, 0, *bytes(61)]), bytes(2), bytearray(16)
    only, room = [bytearray(b"\xff" * 8)] if compact else [], bytearray(4)
    used = _units.v7_decode(stream, places, room, words, 2, 2, 1, 2**63 - 1, False, 0, *only)
    assert 0 < used <= 512
    if compact and sizes == (2, 3, 1, 1):  # one plane of each kernel is kept
        return
    with pytest.raises(ValueError, match=BEYOND):
        _units.v7_decode(stream, places, room, words, *sizes, False, 0, *only)


def test_codes_of_too_many_bits() -> None:
    with pytest.raises(ValueError, match="a symbol stands for more than 7 bits"):
        _units.v8_decode(bytes(64), bytes([0, 1, 2, 3, 4, 5, 6, 200]), 512, 8)
    with pytest.raises(ValueError, match="its size is beyond the buffer"):
        _units.v8_decode(bytes(64), bytes(range(8)), 513, 8)


@pytest.mark.parametrize(
    "sizes", [(1 << 62, 4, 1), (4, 1 << 62, 1), (2, 1, 2), (1, 2, 2), (3, 1, 1)]
)
def test_layers_that_no_buffer_holds(sizes: tuple[int, int, int]) -> None:
    """(kernels, planes, cores), also where their product is beyond 64 bits."""
    kernels, planes, cores = sizes
    buffers = (bytes(2), bytes(4), bytes(4), bytes(2))  # weights, bias, last words, order of taps
    assert len(_coefs.v7_costs(*buffers, (2, 1, 1, 1, 1, 1, 0, 0, 2, 0))) == 1
    for per_core in (1, 1 << 62):
        with pytest.raises(ValueError, match="sizes of the buffers and of the layer disagree"):
            _coefs.v7_costs(*buffers, (kernels, planes, 1, cores, per_core, 1, 0, 0, 2, 0))


@pytest.mark.parametrize("shape", [(1 << 62, 4), (2, 1 << 62), (-1, 4), (0, 0), (2, 5), (4, 2)])
def test_kernels_to_be_rounded_that_no_buffer_holds(shape: tuple[int, int]) -> None:
    data, factors = bytes(8), np.ones(2, np.float32)
    assert _coefs.round_rows(data, factors, (2, 4), 0, 0)[0] == data
    with pytest.raises(ValueError, match="the sizes of data and factors disagree"):
        _coefs.round_rows(data, factors, shape, 0, 0)


@pytest.mark.parametrize("factor", [np.nan, np.inf, -np.inf, 1e38, 0])
def test_factors_that_are_no_numbers(factor: float) -> None:
    """Bytes come out, whatever they are."""
    data, factors = bytes(range(200)), np.full(1, factor, np.float32)
    have, powers = _coefs.round_rows(data, factors, (1, 200), 100, 100)
    assert (len(have), len(powers)) == (200, 16)


def test_jobs_beyond_the_fields_are_refused() -> None:
    job = np.ones(30, np.int64)
    job[:2], job[8] = 0, 0

    assert _moves.extent(job) == (0, 1, 0, 1)
    for place in range(13):
        wrong = job.copy()
        wrong[place] = 1 << 18
        with pytest.raises(ValueError, match="the job's numbers are out of range"):
            _moves.extent(wrong)
