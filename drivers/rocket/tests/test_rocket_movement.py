# Ref: docs/hardware/rocket_vendor.md §0.11, §2 (copies and resizing)
"""Joining, cutting, reshaping, padding: every element is where the reference has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir import ops
from teflon.ir.builder import Builder
from teflon_rocket.context import RocketContext
from tests.rocket.grid import open_simulator
from tests.rocket.moved import Make, difference, graph_of, image

DTYPES = st.sampled_from(["i8", "u8"])
CHANNELS = st.sampled_from([1, 3, 8, 15, 16, 17, 24, 32, 33, 48, 65])
SIDES = st.integers(1, 9)
SHAPES = st.tuples(st.integers(1, 2), SIDES, SIDES, CHANNELS)

few = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


@few
@given(SHAPES, st.integers(0, 3), st.lists(st.integers(1, 40), min_size=1, max_size=4), DTYPES)
def test_concatenation(
    context: RocketContext, shape: tuple[int, ...], axis: int, sizes: list[int], dtype: str
) -> None:
    if axis != 3:
        sizes = [1 + size % 4 for size in sizes]

    def make(b: Builder) -> None:
        parts = [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]
        values = [image(b, part, dtype, f"x{n}") for n, part in enumerate(parts)]
        b.output(b.concatenation(values, axis=axis))

    assert difference(context, graph_of(make)) == 0


@few
@given(SHAPES, st.integers(0, 3), st.integers(0, 10**6))
def test_concatenation_of_several_scales(
    context: RocketContext, shape: tuple[int, ...], axis: int, seed: int
) -> None:
    random = np.random.default_rng(seed)

    def scaled() -> dict[str, Any]:
        scale = float(np.exp(random.uniform(-4, 0)))
        return {"scale": scale, "zero_point": int(random.integers(0, 256))}

    def make(b: Builder) -> None:
        values = [b.input(f"x{n}", "u8", shape, **scaled()) for n in range(3)]
        b.output(b.concatenation(values, axis=axis, **scaled()))

    assert difference(context, graph_of(make), seed) <= 1


@few
@given(SHAPES, st.integers(0, 3), DTYPES)
def test_split(context: RocketContext, shape: tuple[int, ...], axis: int, dtype: str) -> None:
    parts = next(n for n in (4, 3, 2, 1) if shape[axis] % n == 0)

    def make(b: Builder) -> None:
        for value in b.split(image(b, shape, dtype), parts, axis=axis):
            b.output(value)

    assert difference(context, graph_of(make)) == 0


@few
@given(SHAPES, st.integers(0, 2), DTYPES)
def test_unpack_and_pack(
    context: RocketContext, shape: tuple[int, ...], axis: int, dtype: str
) -> None:
    if axis:
        shape = (1, *shape[1:])

    def make(b: Builder) -> None:
        values = b.unpack(image(b, shape, dtype), axis=axis)
        b.output(b.pack([*values, values[0]], axis=axis))

    assert difference(context, graph_of(make)) == 0


@few
@given(st.data(), SHAPES, DTYPES)
def test_slice(
    context: RocketContext, data: st.DataObject, shape: tuple[int, ...], dtype: str
) -> None:
    begin = [data.draw(st.integers(0, size - 1)) for size in shape]
    size = [data.draw(st.integers(1, n - first)) for n, first in zip(shape, begin, strict=True)]

    def make(b: Builder) -> None:
        b.output(b.slice(image(b, shape, dtype), begin=begin, size=size))

    assert difference(context, graph_of(make)) == 0


@few
@given(st.data(), SHAPES, st.tuples(*[st.integers(1, 5)] * 3))
def test_strided_slice(
    context: RocketContext, data: st.DataObject, shape: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    begin = [data.draw(st.integers(0, size - 1)) for size in shape]

    def make(b: Builder) -> None:
        x = image(b, shape)
        b.output(b.strided_slice(x, begin=begin, end=shape, strides=(1, *steps)))

    assert difference(context, graph_of(make)) == 0


@few
@given(SHAPES, st.integers(1, 4), st.booleans(), DTYPES)
def test_reshape(
    context: RocketContext, shape: tuple[int, ...], times: int, cut: bool, dtype: str
) -> None:
    images, height, width, channels = shape
    one, other = (
        (images, height, width, channels * times),
        (images, height * width * times, channels),
    )

    def make(b: Builder) -> None:
        x = image(b, one if cut else other, dtype)
        b.output(b.reshape(x, other if cut else one))

    if images == 1 or times == 1:
        assert difference(context, graph_of(make)) == 0


@few
@given(SHAPES, DTYPES)
def test_transpose(context: RocketContext, shape: tuple[int, ...], dtype: str) -> None:
    def make(b: Builder) -> None:
        b.output(b.transpose(image(b, shape, dtype), (0, 2, 1, 3)))

    assert difference(context, graph_of(make)) == 0


PADS = st.tuples(*[st.integers(0, 3)] * 3)


@few
@given(SHAPES, PADS, PADS, DTYPES, st.booleans())
def test_pad(
    context: RocketContext, shape: tuple[int, ...], before: tuple[int, ...],
    after: tuple[int, ...], dtype: str, valued: bool,
) -> None:  # fmt: skip
    def make(b: Builder) -> None:
        x = image(b, shape, dtype)
        number = np.array([77], np.uint8 if dtype == "u8" else np.int8)
        value = b.constant(number, 0.1, 3) if valued else None
        how: dict[str, Any] = {"before": (0, *before), "after": (0, *after)}
        b.output(b.op(ops.Pad, input=x, value=value, **how) if valued else b.pad(x, **how))

    assert difference(context, graph_of(make)) == 0


@few
@given(SHAPES, PADS, PADS, st.booleans())
def test_mirror_pad(
    context: RocketContext, shape: tuple[int, ...], before: tuple[int, ...],
    after: tuple[int, ...], reflect: bool,
) -> None:  # fmt: skip
    most = [size - reflect for size in shape[1:3]]
    sides = [(0, *(min(*pair) for pair in zip(side, most, strict=False)), 0)
             for side in (before, after)]  # fmt: skip

    def make(b: Builder) -> None:
        x = image(b, shape)
        how = {"before": sides[0], "after": sides[1], "reflect": reflect}
        b.output(b.op(ops.MirrorPad, input=x, **how))

    assert difference(context, graph_of(make)) == 0


@few
@given(SHAPES, st.integers(1, 3), DTYPES)
def test_blocks(context: RocketContext, shape: tuple[int, ...], block: int, dtype: str) -> None:
    images, height, width, channels = shape

    def to_depth(b: Builder) -> None:
        x = image(b, (images, height * block, width * block, channels), dtype)
        b.output(b.op(ops.SpaceToDepth, input=x, block=block))

    def to_space(b: Builder) -> None:
        x = image(b, (images, height, width, channels * block**2), dtype)
        b.output(b.op(ops.DepthToSpace, input=x, block=block))

    assert difference(context, graph_of(to_depth)) == 0
    assert difference(context, graph_of(to_space)) == 0


@few
@given(SHAPES, st.tuples(st.integers(1, 3), st.integers(1, 3)), PADS, DTYPES)
def test_batches(
    context: RocketContext, shape: tuple[int, ...], block: tuple[int, int],
    sides: tuple[int, int, int], dtype: str,
) -> None:  # fmt: skip
    images, height, width, channels = shape
    before = sides[:2]
    after = [-(first + n) % b for first, n, b in zip(before, (height, width), block, strict=True)]

    def to_batch(b: Builder) -> None:
        x = image(b, shape, dtype)
        b.output(b.op(ops.SpaceToBatch, input=x, block=block, before=before, after=tuple(after)))

    def to_images(b: Builder) -> None:
        x = image(b, (images * block[0] * block[1], height, width, channels), dtype)
        sizes = zip(before, block, (height, width), strict=True)
        cut = tuple(min(n, places * size - 1) for n, places, size in sizes)
        b.output(b.op(ops.BatchToSpace, input=x, block=block, before=cut, after=(0, 0)))

    assert difference(context, graph_of(to_batch)) == 0
    assert difference(context, graph_of(to_images)) == 0


def long_rows(b: Builder) -> None:
    """Anchors of a detector of three sizes."""
    parts = [image(b, (1, size, size, 12), name=f"x{size}") for size in (32, 16, 8)]
    flat = [b.reshape(part, (1, part.shape[1] ** 2 * 3, 4)) for part in parts]
    whole = b.concatenation(flat, axis=1)
    b.output(whole)
    b.output(b.slice(whole, begin=(0, 100, 0), size=(1, 3800, 2)))


def pixels_to_channels(b: Builder) -> None:
    b.output(b.reshape(image(b, (1, 49, 40, 1)), (1, 1960)))
    b.output(b.reshape(image(b, (1, 1960), name="y"), (1, 49, 40, 1)))


def long_lines(b: Builder) -> None:
    """Rows so long that a pass cannot skip the rest of one."""
    x = image(b, (1, 3, 9000, 4))
    b.output(b.slice(x, begin=(0, 0, 7, 0), size=(1, 3, 100, 4)))
    b.output(b.strided_slice(x, begin=(0, 1, 0, 0), end=(1, 3, 9000, 4), strides=(1, 2, 1, 1)))


@pytest.mark.parametrize("make", [long_rows, pixels_to_channels, long_lines])
def test_large_maps(context: RocketContext, make: Make) -> None:
    assert difference(context, graph_of(make)) == 0


def test_an_input_that_is_read_in_part(context: RocketContext) -> None:
    """The host stores all of it."""

    def make(b: Builder) -> None:
        x = image(b, (1, 1, 1, 65))
        b.output(b.slice(x, begin=(0, 0, 0, 1), size=(1, 1, 1, 63)))

    assert difference(context, graph_of(make)) == 0


def test_more_rows_than_surfaces(context: RocketContext) -> None:
    """A pass has at most 511 surfaces: what takes rows or columns for them needs several."""

    def make(b: Builder) -> None:
        x = image(b, (1, 1100, 12, 3))
        b.output(b.strided_slice(x, begin=(0, 0, 1, 0), end=x.shape, strides=(1, 2, 2, 1)))
        b.output(b.transpose(x, (0, 2, 1, 3)))

    assert difference(context, graph_of(make)) == 0
