"""Poolings, means, and convolutions of all shapes: on all simulated chips, and in numpy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir import interpreter, windows
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Op
from teflon.ir.ops import BatchToSpace, Conv2D, DepthwiseConv2D, SpaceToBatch, TransposeConv
from teflon.ir.passes import run_pipeline
from teflon.ir.types import Array, Padding
from teflon.pipe import Context
from teflon_etnaviv.chips import chip
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.exact.shapes import forms, kernels
from teflon_etnaviv.exact.windows import largest, means
from teflon_etnaviv.exact.windows.largest import Windows
from tests.etnaviv.grid import check_block, opened
from tests.etnaviv.grid_shapes import CASES
from tests.rocket.grid import blocks

CHIPS = ("a311d", "s905d3", "imx8mp")


@pytest.fixture(scope="module", params=CHIPS)
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    with opened(request.param, {"perchannel": "exact"}) as found:
        yield found


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("block", blocks(2))
def test_generated_shapes(context: Context, kind: str, block: int) -> None:
    check_block(context, CASES[kind], block)


# Windows -----------------------------------------------------------------------------------------


@st.composite
def pools(draw: st.DrawFn) -> tuple[Windows, tuple[int, int]]:
    """Windows of which each has an element of the map, and the map's size."""
    size = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    axes = []
    for n in size:
        kernel, stride = draw(st.integers(1, 14)), draw(st.integers(1, 5))
        before = draw(st.integers(0, kernel - 1))
        most = (n - 1 + before) // stride + 1
        axes.append((kernel, stride, draw(st.integers(1, most)), before))
    kernel_, stride_, count, before_ = zip(*axes, strict=True)
    return Windows(kernel_, stride_, count, before_), size


def surrounded(image: Array, made: Windows, size: tuple[int, int], fill: int) -> Array:
    """The image with what lies before it, and so much behind it."""
    (top, left), (high, wide) = made.before, size
    whole = np.full((max(high, image.shape[0] + top), max(wide, image.shape[1] + left)), fill)
    whole[top : top + image.shape[0], left : left + image.shape[1]] = image
    return whole[:high, :wide]


def each_window(whole: Array, made: Windows) -> list[list[Array]]:
    return [
        [
            whole[y * made.stride[0] :, x * made.stride[1] :][: made.kernel[0], : made.kernel[1]]
            for x in range(made.count[1])
        ]
        for y in range(made.count[0])
    ]


def larger(image: Array, axis: int, shift: int) -> Array:
    """What two launches make: the larger of each element and of the one so far behind it."""
    behind = np.roll(image, -shift, axis)
    index = [slice(None), slice(None)]
    index[axis] = slice(image.shape[axis] - shift, None)
    behind[tuple(index)] = 0
    found: Array = np.maximum(image, behind)
    return found


@settings(max_examples=150)
@given(case=pools(), seed=st.integers(0, 2**32))
def test_steps_find_the_largest_elements(case: tuple[Windows, tuple[int, int]], seed: int) -> None:
    made, size = case
    image = np.random.default_rng(seed).integers(1, 256, size)
    whole = surrounded(image, made, made.reach, 0)
    wanted = [[int(w.max()) for w in row] for row in each_window(whole, made)]
    found = largest.plan(made, size)
    here = surrounded(image, made, found.size, 0)
    for pairs in found.halvings:
        for axis in range(2):
            here = larger(here, axis, 1) if pairs[axis] else here
        assert here.shape[0] % 2 == here.shape[1] % 2 == 0
        here = np.maximum(here[::2], here[1::2])
        here = np.maximum(here[:, ::2], here[:, 1::2])
    for axis in range(2):
        for shift in largest.doubled(found.rest.kernel[axis], 10):
            assert shift <= 10
            here = larger(here, axis, shift)
    down, across = found.rest.stride
    have = here[
        : (made.count[0] - 1) * down + 1 : down, : (made.count[1] - 1) * across + 1 : across
    ]
    assert have.tolist() == wanted


@settings(max_examples=100)
@given(case=pools())
def test_spans_count_what_is_inside(case: tuple[Windows, tuple[int, int]]) -> None:
    made, size = case
    inside = surrounded(np.ones(size, int), made, made.reach, 0)
    wanted = [[int(w.sum()) for w in row] for row in each_window(inside, made)]
    counts = []
    for axis in range(2):
        found = means.spans(made, size, axis)
        counts.append([span.count for span in found for _ in range(span.end - span.first)])
    assert np.multiply.outer(*counts).tolist() == wanted


@settings(max_examples=100)
@given(
    kernel=st.integers(1, 121), stride=st.integers(1, 20), count=st.integers(1, 9),
    name=st.sampled_from(CHIPS),
)  # fmt: skip
def test_blocks_make_up_windows(kernel: int, stride: int, count: int, name: str) -> None:
    about = chip(name)
    made = Windows((kernel, 1), (stride, 1), (count, 1))
    found = means.blocks(made, about)
    if found is None:
        assert count > 1
        return
    block, rest = found.block[0], found.rest
    assert max(block, rest.kernel[0]) <= about.kernel_size_max
    assert rest.kernel[0] * block >= kernel > (rest.kernel[0] - 1) * block
    if count > 1:
        assert rest.kernel[0] * block == kernel
        assert rest.stride[0] * block == stride or block == 1


# Kernels -----------------------------------------------------------------------------------------


def _conv(b: Builder, shape: tuple[int, ...], weights: tuple[int, ...], **how: Any) -> Op:
    x = b.input("x", "i8", shape, 0.5)
    rng = np.random.default_rng(sum(weights))
    data = rng.integers(-9, 10, weights).astype(np.int8)
    b.output(b.conv2d(x, data, weight_scale=1.0, **how))
    return b.build().ops[0]


def _depth(image: Array, step: tuple[int, int], rows: int, columns: int) -> Array:
    """Blocks of pixels in channels, as `tp.blocks` brings them there."""
    whole = np.zeros((rows * step[0], columns * step[1], image.shape[2]), image.dtype)
    part = image[: whole.shape[0], : whole.shape[1]]
    whole[: part.shape[0], : part.shape[1]] = part
    split = whole.reshape(rows, step[0], columns, step[1], -1).transpose(0, 2, 4, 1, 3)
    return split.reshape(1, rows, columns, -1)


def _flat(values: Array, times: tuple[int, int], channels: int) -> Array:
    """Outputs in channels, brought into their places."""
    high, wide = values.shape[1:3]
    split = values.reshape(high, wide, channels, *times).transpose(0, 3, 1, 4, 2)
    return split.reshape(high * times[0], wide * times[1], channels)


@settings(max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    stride=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    name=st.sampled_from(CHIPS), inputs=st.integers(1, 3), outputs=st.integers(1, 3),
)  # fmt: skip
def test_kernels_over_blocks_are_the_same_convolution(
    kernel: tuple[int, int], stride: tuple[int, int], name: str, inputs: int, outputs: int
) -> None:
    about = chip(name)
    shape = (1, kernel[0] + 7, kernel[1] + 6, inputs)
    op = _conv(Builder("one"), shape, (outputs, *kernel, inputs), stride=stride)
    assert isinstance(op, Conv2D)
    sizes = forms.phases(op, about)
    assert sizes is not None
    assert max(sizes.kernel) <= about.kernel_size_max
    assert op.weights.data is not None
    x = np.random.default_rng(1).integers(-9, 10, shape).astype(np.int8)
    wanted = windows.convolve(x, op.weights.data, stride, (1, 1))
    blocks_ = _depth(x[0], sizes.step, *sizes.blocks)
    made = windows.convolve(blocks_, kernels.over_blocks(op, sizes), (1, 1), (1, 1))
    have = _flat(made, sizes.times, outputs)
    assert (have[: wanted.shape[1], : wanted.shape[2]] == wanted[0]).all()


@settings(max_examples=60)
@given(
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)  # fmt: skip
def test_kernels_of_places_are_the_transposed_convolution(
    kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    b = Builder("one")
    x = b.input("x", "i8", (1, 3, 4, 2), 0.5)
    size = 2 * stride[0] + kernel[0], 3 * stride[1] + kernel[1]
    data = np.random.default_rng(2).integers(-9, 10, (3, *kernel, 2)).astype(np.int8)
    b.output(b.transpose_conv(x, data, weight_scale=1.0, size=size, stride=stride, padding="valid"))
    op = b.build().ops[0]
    assert isinstance(op, TransposeConv)
    image = np.random.default_rng(3).integers(-9, 10, x.shape).astype(np.int8)
    wanted = windows.convolve_transposed(image, data, stride, (0, 0), size)
    rows, columns = kernels.taps(op)
    pad = windows.pad_image(image, Padding(rows - 1, rows - 1, columns - 1, columns - 1))
    made = windows.convolve(pad, kernels.of_transposed(op), (1, 1), (1, 1))
    have = _flat(made, stride, 3)
    assert (have[: size[0], : size[1]] == wanted[0]).all()


def test_groups_of_one_channel_are_depthwise() -> None:
    op = _conv(Builder("one"), (1, 5, 5, 4), (8, 3, 3, 1))
    assert isinstance(op, Conv2D)
    found = kernels.ungrouped(op)
    assert isinstance(found, DepthwiseConv2D)
    x = np.random.default_rng(1).integers(-9, 10, (1, 5, 5, 4)).astype(np.int8)
    assert (found.evaluate(x, found.weights.data, None)[0] == op.evaluate(
        x, op.weights.data, None
    )[0]).all()  # fmt: skip


# Programs ----------------------------------------------------------------------------------------


def _pooled(kind: str, shape: tuple[int, int, int, int], kernel: int, **how: Any) -> Graph:
    b = Builder(kind)
    b.output(getattr(b, kind)(b.input("x", "u8", shape, 0.1, 3), kernel, **how))
    return b.build()


@pytest.mark.parametrize("name", CHIPS)
def test_what_the_hardware_pools_is_one_launch(name: str) -> None:
    """Two jobs change the layout, one pools."""
    device = EtnavivDevice(name)
    for kind, kernel in itertools.product(("max_pool2d", "average_pool2d"), (2,)):
        graph = _pooled(kind, (1, 8, 8, 16), kernel, stride=2, padding="valid")
        assert device.compile(graph).statistics["tasks"] == 3


@pytest.mark.parametrize("name", CHIPS)
def test_a_global_mean_needs_few_weights(name: str) -> None:
    """However many channels there are, they share a kernel."""
    graph = _pooled("average_pool2d", (1, 7, 7, 1280), 7, padding="valid")
    assert EtnavivDevice(name).compile(graph).statistics["coefficient_bytes"] < 4096


def test_a_batch_of_two_is_computed_twice(context: Context) -> None:
    b = Builder("batch")
    x = b.input("x", "u8", (2, 6, 5, 3), 0.1, 3)
    y = b.max_pool2d(x, 2, stride=1, padding="valid")
    z = b.concatenation([y, y], axis=3)
    b.output(b.reshape(z, (10, 4, 6)))
    graph = b.build()
    image = np.random.default_rng(4).integers(0, 256, x.shape).astype(np.uint8)
    loaded = context.load(context.device.compile(graph))
    (have,) = context.invoke(loaded, [image])
    loaded.close()
    (want,) = interpreter.run(graph, [image])
    assert (have == want).all()


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((1, 80, 1000, 2), (1,)), ((1, 3, 8191, 1), (2,)), ((1, 90, 600, 1), (1, 2))],
)
def test_means_of_wide_maps(
    context: Context, shape: tuple[int, int, int, int], axes: tuple[int, ...]
) -> None:
    b = Builder("wide")
    b.output(b.mean(b.input("x", "u8", shape, 0.1, 3), axes, scale=0.06, zero_point=9))
    graph = b.build()
    device = context.device
    if reasons := device.unsupported(graph.ops[0], graph):
        (reason,) = reasons  # more than the square of the largest kernel, on some chips
        assert reason.startswith("Windows of means must have at most ")
        assert max(shape[axis] for axis in axes) > 11**2
        return
    image = np.random.default_rng(4).integers(0, 256, shape).astype(np.uint8)
    loaded = context.load(device.compile(graph))
    (have,) = context.invoke(loaded, [image])
    loaded.close()
    (want,) = interpreter.run(graph, [image])
    assert np.abs(have.astype(int) - want.astype(int)).max() <= 1


def test_batches_of_a_dilated_convolution_are_folded() -> None:
    """SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND run nowhere: the convolution skips elements."""
    b = Builder("dilated")
    x = b.input("x", "u8", (1, 8, 8, 4), 0.1, 3)
    y = b.op(SpaceToBatch, input=x, block=(2, 2), before=(2, 2), after=(2, 2))
    z = b.conv2d(y, np.ones((4, 3, 3, 4), np.uint8), weight_scale=0.1, padding="valid")
    b.output(b.op(BatchToSpace, input=z, block=(2, 2), before=(0, 0), after=(0, 0)))
    device = EtnavivDevice("a311d")
    (op,) = run_pipeline(b.build(), device.passes()).ops
    assert isinstance(op, Conv2D)
    assert op.dilation == (2, 2)


def test_padding_goes_into_the_convolution() -> None:
    b = Builder("padded")
    x = b.input("x", "u8", (1, 8, 8, 4), 0.1, 3)
    y = b.pad(x, (0, 1, 1, 0), (0, 1, 1, 0))
    b.output(b.conv2d(y, np.ones((4, 3, 3, 4), np.uint8), weight_scale=0.1, padding="valid"))
    (op,) = run_pipeline(b.build(), EtnavivDevice("a311d").passes()).ops
    assert isinstance(op, Conv2D)
    assert op.padding == Padding(1, 1, 1, 1)
