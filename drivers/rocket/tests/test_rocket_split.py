"""Splits compute every output once, have all inputs that it needs, and fit the buffer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon_rocket.chips import RK3588
from teflon_rocket.exact.split import split as split_exact
from teflon_rocket.mesa.split import split as split_mesa
from teflon_rocket.operations.convolution import Geometry, Split, Tile

Size = tuple[int, int]


def geometry(
    size: Size, channels: int, kernels: int, kernel: Size, stride: Size = (1, 1), pad: int = 0,
    depthwise: bool = False, images: int = 1,
) -> Geometry:  # fmt: skip
    """A convolution of (width, height) `size`; `pad` on each side, less than the kernel."""
    width, height = size
    pads = [min(pad, k - 1) for k in (kernel[0], kernel[0], kernel[1], kernel[1])]
    out_width = (width + pads[0] + pads[1] - kernel[0]) // stride[0] + 1
    out_height = (height + pads[2] + pads[3] - kernel[1]) // stride[1] + 1
    return Geometry(
        width=width, height=height, channels=channels, out_width=out_width, out_height=out_height,
        out_channels=kernels, kernel=kernel, stride=stride,
        pads=(pads[0], pads[1], pads[2], pads[3]), depthwise=depthwise, images=images,
    )  # fmt: skip


def check(op: Geometry, split: Split) -> None:
    """Raise AssertionError where outputs are missed or doubled, or inputs not there."""
    seen = np.zeros((op.images, op.out_height, op.out_width), int)
    for tile in split.tiles:
        rows = slice(tile.out_top, tile.out_top + tile.out_rows)
        seen[tile.image, rows, tile.out_left : tile.out_left + tile.out_columns] += 1
        check_reach(op, tile)
        assert tile.out_rows == 1 or tile.out_columns == op.out_width  # rows lie without gaps
        entries = op.entries(tile.columns)
        assert entries * tile.rows <= split.data_banks * RK3588.bank_entries
    assert (seen == 1).all()
    assert split.data_banks + split.weight_banks <= RK3588.cbuf_banks
    assert min(split.data_banks, split.weight_banks) > 0
    if split.reuse:
        assert op.weight_bytes <= split.weight_banks * RK3588.cbuf_bank_bytes


def check_reach(op: Geometry, tile: Tile) -> None:
    """Every input row and column of a tile's outputs is in it, or is padding outside the map."""
    axes = (
        (tile.top, tile.rows, tile.pad_top, tile.out_top, tile.out_rows, op.height, 1),
        (tile.left, tile.columns, tile.pad_left, tile.out_left, tile.out_columns, op.width, 0),
    )
    for first, count, pad, out, outs, size, axis in axes:
        start = out * op.stride[axis] - op.pads[2 * axis]
        assert count > 0
        assert outs > 0
        assert pad <= 15
        assert start == first - pad
        end = start + (outs - 1) * op.stride[axis] + op.kernel[axis]
        assert first + count >= min(end, size)
        assert first + count <= size


SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
KERNELS = st.tuples(st.integers(1, 7), st.integers(1, 7))


@given(
    SIZES, st.integers(1, 600), st.integers(1, 600), KERNELS,
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(0, 6), st.booleans(),
    st.integers(1, 2),
)  # fmt: skip
def test_exact(
    size: Size, channels: int, kernels: int, kernel: Size, stride: Size, pad: int,
    depthwise: bool, images: int,
) -> None:  # fmt: skip
    size = (max(size[0], kernel[0]), max(size[1], kernel[1]))
    kernels = channels if depthwise else kernels
    op = geometry(size, channels, kernels, kernel, stride, pad, depthwise, images)
    split = split_exact(op, RK3588)
    if split is not None:
        check(op, split)
    else:  # a kernel's window or a group of kernels is larger than the buffer
        group = op.taps * op.padded_channels * min(op.kernels, 32)
        window = op.taps * op.padded_channels
        assert group + window + 2 * RK3588.cbuf_bank_bytes > RK3588.cbuf_bytes


@given(
    st.integers(8, 224), st.integers(2, 512), st.integers(2, 256), st.sampled_from([1, 3, 5]),
    st.integers(1, 2), st.booleans(),
)  # fmt: skip
def test_exact_is_mesa_where_mesa_is_right(
    size: int, channels: int, kernels: int, kernel: int, stride: int, same: bool
) -> None:
    if channels // 16 % 4 in (2, 3):  # 3 atoms over: Mesa's count of entries is short
        channels = channels // 64 * 64 + 32
    pad = kernel // 2 if same else 0
    op = geometry((size, size), channels, kernels, (kernel, kernel), (stride, stride), pad)
    theirs, ours = split_mesa(op, RK3588), split_exact(op, RK3588)
    try:
        check(op, theirs)
    except (AssertionError, IndexError):
        return
    group = op.taps * op.padded_channels * min(op.kernels, 32)
    if group > theirs.weight_banks * RK3588.cbuf_bank_bytes:
        return
    assert ours is not None
    assert ours.tiles == theirs.tiles
    assert (ours.data_banks, ours.weight_banks) == (theirs.data_banks, theirs.weight_banks)
    assert ours.reuse == theirs.reuse or len(ours.tiles) == 1


def test_wide_deep_maps_are_cut_into_pieces() -> None:
    """Mesa splits this one for ever: two rows fit, the kernel needs three."""
    op = geometry((500, 20), 512, 64, (3, 3), (1, 1), 1)
    split = split_exact(op, RK3588)
    assert split is not None
    check(op, split)
    assert {t.out_rows for t in split.tiles} == {1}
    assert len(split.tiles) > op.out_height


def test_no_task_is_empty() -> None:
    """28x28x256, 3x3, stride 2, VALID: Mesa's last task has no output rows."""
    op = geometry((28, 28), 256, 64, (3, 3), (2, 2))
    assert split_mesa(op, RK3588).tiles[-1].out_rows > op.out_height
    split = split_exact(op, RK3588)
    assert split is not None
    check(op, split)


def test_a_pixel_column_keeps_slack() -> None:
    """Maps one pixel wide must not fill the last bank."""
    op = geometry((1, 512), 64, 16, (1, 1))
    split = split_exact(op, RK3588)
    assert split is not None
    assert op.entries(1) * op.height == RK3588.bank_entries
    assert split.data_banks == 2


@pytest.mark.parametrize("width", [2046, 2047, 5000])
def test_maps_wider_than_the_size_fields(width: int) -> None:
    op = geometry((width, 3), 3, 8, (3, 3), (1, 1), 1)
    split = split_exact(op, RK3588)
    assert split is not None
    check(op, split)
    assert max(t.columns for t in split.tiles) <= RK3588.max_width
