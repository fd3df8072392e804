# Ref: docs/hardware/etnaviv.md sections 4 and 8.3
"""Resizing: nearest pixels are equal, interpolated ones within a step of TFLite's kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir.builder import Builder
from teflon.pipe import Context
from tests.etnaviv.grid import opened
from tests.etnaviv.moved import Make, difference, graph_of, image, kinds, reasons, through_planes
from tests.etnaviv.parity import CHIPS

SIZES = st.tuples(st.integers(1, 8), st.integers(1, 8))
TARGETS = st.tuples(st.integers(1, 20), st.integers(1, 20))
CHANNELS = st.sampled_from([1, 3, 8, 17])
MODES = st.sampled_from([(False, False), (True, False), (False, True)])
"""align_corners, half_pixel_centers."""
DTYPES = st.sampled_from(["i8", "u8"])

Size = tuple[int, int]
Mode = tuple[bool, bool]

few = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module", params=CHIPS)
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    with opened(request.param) as found:
        yield found


def nearest(shape: tuple[int, ...], size: Size, mode: Mode, dtype: str = "i8") -> Make:
    def make(b: Builder) -> None:
        aligned, half = mode
        x = image(b, shape, dtype)
        b.output(b.resize_nearest_neighbor(x, size, align_corners=aligned, half_pixel_centers=half))

    return make


def bilinear(shape: tuple[int, ...], size: Size, mode: Mode, dtype: str = "i8") -> Make:
    def make(b: Builder) -> None:
        aligned, half = mode
        x = image(b, shape, dtype)
        b.output(b.resize_bilinear(x, size, align_corners=aligned, half_pixel_centers=half))

    return make


@few
@given(SIZES, TARGETS, CHANNELS, MODES, DTYPES)
def test_nearest(
    context: Context, size: Size, wanted: Size, channels: int, mode: Mode, dtype: str
) -> None:
    graph = graph_of(nearest((1, *size, channels), wanted, mode, dtype))
    assert difference(context, graph) == 0


@few
@given(SIZES, st.integers(1, 4), CHANNELS, MODES, DTYPES, st.booleans())
def test_bilinear_by_whole_factors(
    context: Context, size: Size, factor: int, channels: int, mode: Mode, dtype: str, aligned: bool
) -> None:
    height, width = ((n - 1) * factor + 1 if mode[0] else n * factor for n in size)
    graph = graph_of(bilinear((1, *size, channels), (height, width), mode, dtype))
    if not reasons(graph):
        assert difference(context, graph) <= 1
    else:
        assert factor == 3  # thirds are no whole 1/1024


@few
@given(SIZES, TARGETS, CHANNELS, MODES)
def test_bilinear(context: Context, size: Size, wanted: Size, channels: int, mode: Mode) -> None:
    graph = graph_of(bilinear((1, *size, channels), wanted, mode, "u8"))
    assert difference(context, graph) <= 1


@pytest.mark.parametrize("mode", [(True, False), (False, True), (False, False)])
def test_many_phases(context: Context, mode: Mode) -> None:
    """As in DeepLab: 16 phases along both axes, rows and columns in turns."""
    size = (81, 113) if mode[0] else (96, 128)
    graph = graph_of(bilinear((1, 6, 8, 5), size, mode, "u8"))
    assert difference(context, graph) <= 1
    assert kinds(graph).count("NN") == (30 if mode[0] else 32 - 2 * (not mode[1]))


def test_one_pixel_fills_a_map(context: Context) -> None:
    def make(b: Builder) -> None:
        x = image(b, (1, 1, 1, 7))
        b.output(b.resize_bilinear(x, (33, 33)), b.resize_nearest_neighbor(x, (5, 300)))

    assert difference(context, graph_of(make)) == 0


def test_twice_the_size_is_one_operation_of_a_job_for_each_phase() -> None:
    def make(b: Builder) -> None:
        x = through_planes(b, image(b, (1, 20, 20, 32)))
        y = b.resize_nearest_neighbor(x, (40, 40))
        b.output(through_planes(b, y))

    graph = graph_of(make)
    assert kinds(graph, "a311d") == ["transpose", "NN", "move", "NN", "detranspose"]
    assert kinds(graph, "s905d3").count("move") == 4


def test_a_ratio_that_is_not_even_is_refused() -> None:
    graph = graph_of(bilinear((1, 19, 19, 8), (267, 300), (False, True), "u8"))
    assert reasons(graph) == [
        "The sizes of a RESIZE_BILINEAR must have a ratio of small numbers: shares of pixels in"
        " whole 1/255, at most 64 phases (shares of 1/267)"
    ]
