# Ref: docs/hardware/etnaviv.md sections 3.2, 5 and 8.3
"""Joining, cutting, reordering, padding: every element is where the reference has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir import ops
from teflon.ir.builder import Builder
from teflon.ir.graph import Value
from teflon.pipe import Context
from tests.etnaviv.grid import opened
from tests.etnaviv.moved import difference, graph_of, image, reasons, through_planes
from tests.etnaviv.parity import CHIPS

DTYPES = st.sampled_from(["i8", "u8"])
PLANES = st.booleans()
"""Whether a map lies in planes, as behind a convolution; results are one step off there."""
CHANNELS = st.sampled_from([1, 3, 8, 15, 17, 24])
SIDES = st.integers(1, 9)
SHAPES = st.tuples(st.just(1), SIDES, SIDES, CHANNELS)

few = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module", params=CHIPS)
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    with opened(request.param) as found:
        yield found


def source(b: Builder, shape: tuple[int, ...], dtype: str, planes: bool, name: str = "x") -> Value:
    x = image(b, shape, dtype, name)
    return through_planes(b, x) if planes else x


@few
@given(SHAPES, st.integers(0, 3), st.lists(st.integers(1, 20), min_size=1, max_size=4), DTYPES,
       PLANES)  # fmt: skip
def test_concatenation(
    context: Context, shape: tuple[int, ...], axis: int, sizes: list[int], dtype: str, planes: bool
) -> None:
    sizes = sizes if axis == 3 else [1 + size % 4 for size in sizes]
    planes = planes and axis > 0

    def make(b: Builder) -> None:
        parts = [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]
        values = [source(b, part, dtype, planes, f"x{n}") for n, part in enumerate(parts)]
        b.output(b.concatenation(values, axis=axis))

    assert difference(context, graph_of(make)) <= planes


@few
@given(SHAPES, st.integers(0, 3), PLANES, st.integers(0, 10**6))
def test_concatenation_of_several_scales(
    context: Context, shape: tuple[int, ...], axis: int, planes: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)

    def scaled() -> dict[str, Any]:
        scale = float(np.exp(random.uniform(-3, 0)))
        return {"scale": scale, "zero_point": int(random.integers(0, 256))}

    def make(b: Builder) -> None:
        values = [b.input(f"x{n}", "u8", shape, **scaled()) for n in range(3)]
        b.output(b.concatenation(values, axis=axis, **scaled()))

    assert difference(context, graph_of(make), seed) <= 1


@few
@given(SHAPES, st.integers(0, 3), DTYPES, PLANES)
def test_split(
    context: Context, shape: tuple[int, ...], axis: int, dtype: str, planes: bool
) -> None:
    parts = next(n for n in (4, 3, 2, 1) if shape[axis] % n == 0)

    def make(b: Builder) -> None:
        for value in b.split(source(b, shape, dtype, planes), parts, axis=axis):
            b.output(value)

    assert difference(context, graph_of(make)) <= planes


@few
@given(st.data(), SHAPES, DTYPES, PLANES)
def test_split_v(
    context: Context, data: st.DataObject, shape: tuple[int, ...], dtype: str, planes: bool
) -> None:
    axis = data.draw(st.integers(1, 3))
    first = data.draw(st.integers(0, shape[axis] - 1))
    sizes = [size for size in (first, shape[axis] - first) if size]

    def make(b: Builder) -> None:
        for value in b.split_v(source(b, shape, dtype, planes), sizes, axis=axis):
            b.output(value)

    assert difference(context, graph_of(make)) <= planes


@few
@given(SHAPES, st.integers(0, 3), st.integers(0, 3), DTYPES, PLANES)
def test_unpack_and_pack(
    context: Context, shape: tuple[int, ...], axis: int, other: int, dtype: str, planes: bool
) -> None:
    def make(b: Builder) -> None:
        values = b.unpack(source(b, shape, dtype, planes), axis=axis)
        b.output(b.pack([*values, values[0]], axis=other))

    assert difference(context, graph_of(make)) <= planes


@few
@given(st.data(), SHAPES, DTYPES, PLANES)
def test_slice(
    context: Context, data: st.DataObject, shape: tuple[int, ...], dtype: str, planes: bool
) -> None:
    begin = [data.draw(st.integers(0, size - 1)) for size in shape]
    size = [data.draw(st.integers(1, n - first)) for n, first in zip(shape, begin, strict=True)]

    def make(b: Builder) -> None:
        b.output(b.slice(source(b, shape, dtype, planes), begin=begin, size=size))

    assert difference(context, graph_of(make)) <= planes


@few
@given(st.data(), SHAPES, st.tuples(*[st.sampled_from([-3, -2, -1, 1, 2, 3, 5])] * 3), PLANES)
def test_strided_slice(
    context: Context, data: st.DataObject, shape: tuple[int, ...], steps: tuple[int, ...],
    planes: bool,
) -> None:  # fmt: skip
    strides = (1, *steps)
    begin = [data.draw(st.integers(0, size - 1)) for size in shape]
    end = [size if step > 0 else -1 for size, step in zip(shape, strides, strict=True)]

    def make(b: Builder) -> None:
        x = source(b, shape, "u8", planes)
        b.output(b.strided_slice(x, begin=begin, end=end, strides=strides))

    assert difference(context, graph_of(make)) <= planes


@few
@given(st.permutations(range(4)), st.tuples(st.integers(1, 2), SIDES, SIDES, CHANNELS), PLANES)
def test_transpose(context: Context, perm: list[int], shape: tuple[int, ...], planes: bool) -> None:
    planes = planes and shape[0] == 1

    def make(b: Builder) -> None:
        b.output(b.transpose(source(b, shape, "i8", planes), perm))

    assert difference(context, graph_of(make)) <= planes


@few
@given(st.permutations(range(6)), st.tuples(*[st.integers(1, 5)] * 6))
def test_transpose_of_six_axes(context: Context, perm: list[int], shape: tuple[int, ...]) -> None:
    def make(b: Builder) -> None:
        b.output(b.transpose(image(b, shape), perm))

    assert difference(context, graph_of(make)) == 0


@few
@given(st.integers(2, 4), SIDES, SIDES, CHANNELS, DTYPES, PLANES)
def test_blocks(
    context: Context, block: int, height: int, width: int, channels: int, dtype: str, planes: bool
) -> None:
    deep, wide = (1, height, width, channels * block * block), (1, height * block, width * block, 3)

    def make(b: Builder) -> None:
        b.output(b.op(ops.DepthToSpace, input=source(b, deep, dtype, planes, "deep"), block=block))
        b.output(b.op(ops.SpaceToDepth, input=source(b, wide, dtype, planes, "wide"), block=block))

    assert difference(context, graph_of(make)) <= planes


@few
@given(st.data(), SHAPES, DTYPES, PLANES, st.sampled_from([None, 0, 17, -3]))
def test_pad(
    context: Context, data: st.DataObject, shape: tuple[int, ...], dtype: str, planes: bool,
    filler: int | None,
) -> None:  # fmt: skip
    amounts = st.tuples(*[st.integers(0, 3)] * 3)
    before, after = ((0, *data.draw(amounts)) for _ in range(2))
    value = None if filler is None else abs(filler) if dtype == "u8" else filler

    def make(b: Builder) -> None:
        x = source(b, shape, dtype, planes)
        number = (
            None if value is None else b.constant(np.array([value], x.type.dtype.numpy), 0.1, 3)
        )
        b.output(b.op(ops.Pad, input=x, value=number, before=before, after=after))

    assert difference(context, graph_of(make)) <= planes


@few
@given(st.data(), SHAPES, st.booleans(), PLANES)
def test_mirror_pad(
    context: Context, data: st.DataObject, shape: tuple[int, ...], reflect: bool, planes: bool
) -> None:
    most = [min(4, size - reflect) for size in shape]
    before, after = (
        (0, *(data.draw(st.integers(0, n)) for n in most[1:])) for _ in range(2)
    )  # fmt: skip

    def make(b: Builder) -> None:
        x = source(b, shape, "u8", planes)
        b.output(b.op(ops.MirrorPad, input=x, before=before, after=after, reflect=reflect))

    assert difference(context, graph_of(make)) <= planes


@few
@given(SHAPES, st.tuples(*[st.integers(1, 3)] * 4))
def test_tile(context: Context, shape: tuple[int, ...], multiples: tuple[int, ...]) -> None:
    def make(b: Builder) -> None:
        b.output(b.op(ops.Tile, input=image(b, shape), multiples=multiples))

    graph = graph_of(make)
    if reasons(graph):
        assert np.prod(multiples) > 64
    else:
        assert difference(context, graph) == 0


@few
@given(st.integers(1, 3), SIDES, SIDES, CHANNELS, PLANES)
def test_reshapes(
    context: Context, images: int, height: int, width: int, channels: int, planes: bool
) -> None:
    """Pixels that stay what they are and such that do not, squeezed and with new axes."""

    def make(b: Builder) -> None:
        x = source(b, (1, images * height, width, channels), "i8", planes)
        apart = b.reshape(x, (images, height, width, channels))
        b.output(b.reshape(apart, (images * height * width, channels)))
        line = b.squeeze(b.reshape(apart, (1, 1, images * height * width, channels)), [0, 1])
        b.output(b.op(ops.ExpandDims, input=line, axis=1))
        b.output(b.reshape(apart, (1, channels, width, images * height)))

    assert difference(context, graph_of(make)) <= planes


@few
@given(st.data(), st.lists(SIDES, min_size=1, max_size=3), DTYPES)
def test_fewer_axes(context: Context, data: st.DataObject, sizes: list[int], dtype: str) -> None:
    """Tensors of up to three axes: joined, cut, padded, put into another order."""
    shape, rank = tuple(sizes), len(sizes)
    axis = data.draw(st.integers(0, rank - 1))
    before, after = (tuple(data.draw(st.integers(0, 2)) for _ in shape) for _ in range(2))
    perm = data.draw(st.permutations(range(rank)))

    def make(b: Builder) -> None:
        x = image(b, shape, dtype)
        b.output(b.concatenation([x, image(b, shape, dtype, "y")], axis=axis))
        b.output(b.transpose(x, perm), b.pad(x, before, after), *b.unpack(x, axis=axis))

    assert difference(context, graph_of(make)) == 0


@few
@given(st.integers(2, 3), SIDES, SIDES, CHANNELS, st.sampled_from([1, 2, 3]))
def test_batches(
    context: Context, images: int, height: int, width: int, channels: int, axis: int
) -> None:
    """Several images: joined with themselves, cut, and gone through a convolution."""

    def make(b: Builder) -> None:
        x = through_planes(b, image(b, (images, height, width, channels)))
        y = b.concatenation([x, x], axis=axis)
        b.output(*b.split(y, 2, axis=axis), b.slice(x, begin=(1, 0, 0, 0), size=(1, *x.shape[1:])))
        b.output(b.transpose(x, (3, 0, 2, 1)), through_planes(b, y))

    assert difference(context, graph_of(make)) <= 2
