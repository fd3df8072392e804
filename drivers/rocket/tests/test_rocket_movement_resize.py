# Ref: docs/hardware/rocket_vendor.md §2 (resize nearest, resize bilinear)
"""Resizing: nearest pixels are equal, interpolated ones within a step of TFLite's kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir.builder import Builder
from teflon_rocket.context import RocketContext
from teflon_rocket.operations.commands import strict
from teflon_rocket.operations.convolution import Convolution
from teflon_rocket.operations.lists import command_lists
from teflon_rocket.operations.passes import Pass
from teflon_rocket.registers import DPU, WRITE
from tests.paths import needs_shared
from tests.rocket.grid import open_simulator
from tests.rocket.moved import Make, difference, graph_of, image, operations, reasons
from tests.rocket.words import ours, vendors

SIZES = st.tuples(st.integers(1, 8), st.integers(1, 8))
TARGETS = st.tuples(st.integers(1, 20), st.integers(1, 20))
CHANNELS = st.sampled_from([1, 8, 16, 21, 48])
MODES = st.sampled_from([(False, False), (True, False), (False, True)])
"""align_corners, half_pixel_centers."""
DTYPES = st.sampled_from(["i8", "u8"])

Size = tuple[int, int]
Mode = tuple[bool, bool]

few = settings(max_examples=50, deadline=None)


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


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
@given(st.integers(1, 2), SIZES, CHANNELS, TARGETS, MODES, DTYPES)
def test_nearest(
    context: RocketContext, images: int, size: Size, channels: int, target: Size, mode: Mode,
    dtype: str,
) -> None:  # fmt: skip
    graph = graph_of(nearest((images, *size, channels), target, mode, dtype))
    assert difference(context, graph) == 0


@few
@given(st.integers(1, 2), SIZES, CHANNELS, TARGETS, MODES, DTYPES)
def test_bilinear(
    context: RocketContext, images: int, size: Size, channels: int, target: Size, mode: Mode,
    dtype: str,
) -> None:  # fmt: skip
    graph = graph_of(bilinear((images, *size, channels), target, mode, dtype))
    for reason in reasons(graph):  # sizes that have no small ratio
        assert "RESIZE_BILINEAR" in reason
        return
    assert difference(context, graph) <= 1


MODELS = {
    "MoveNet": ((1, 6, 6, 64), (12, 12), (False, True), "i8"),
    "DeepLab's image pooling": ((1, 1, 1, 256), (33, 33), (True, False), "u8"),
    "DeepLab's logits": ((1, 33, 33, 21), (33, 33), (True, False), "u8"),
    "DeepLab's result, a part": ((1, 5, 5, 21), (65, 65), (True, False), "u8"),
    "threefold": ((1, 4, 5, 20), (12, 15), (False, True), "u8"),
    "half": ((1, 8, 6, 20), (4, 3), (False, True), "i8"),
    "one column": ((1, 3, 1, 1), (5, 1), (True, False), "i8"),
    "to one": ((1, 8, 6, 20), (1, 1), (False, False), "i8"),
}


@pytest.mark.parametrize("name", MODELS)
def test_cases_of_models(context: RocketContext, name: str) -> None:
    assert difference(context, graph_of(bilinear(*MODELS[name]))) <= 1


@pytest.mark.parametrize("times", range(2, 9))
def test_repeated_pixels_are_one_pass(context: RocketContext, times: int) -> None:
    graph = graph_of(nearest((2, 5, 7, 40), (5 * times, 7 * times), (False, times % 2 == 0)))
    (operation,) = operations(graph)
    assert isinstance(operation, Pass)
    assert operation.repeat == times
    assert difference(context, graph) == 0


def test_one_pixel_is_one_pass(context: RocketContext) -> None:
    graph = graph_of(bilinear((1, 1, 1, 40), (5, 7), (False, True)))
    (operation,) = operations(graph)
    assert isinstance(operation, Pass)
    assert difference(context, graph) == 0


@needs_shared
def test_words_of_interleaved_rows() -> None:
    """The four convolutions of a map twice as large say where pixels go as the vendor's do."""
    graph = graph_of(bilinear((1, 12, 12, 32), (24, 24), (False, True)))
    *copies, a, b, c, d = operations(graph)
    assert len(copies) == 5
    registers = (
        DPU.DST_SURF_STRIDE, DPU.DATA_CUBE_NOTCH_ADDR, DPU.DATA_CUBE_CHANNEL, DPU.WDMA_SIZE_0,
        DPU.WDMA_SIZE_1, DPU.SURFACE_ADD,
    )  # fmt: skip
    for number, operation in enumerate((a, b, c, d)):
        assert isinstance(operation, Convolution)
        lists = command_lists(operation, strict)
        start = lists.lists[0].addresses
        places = [address.addend + operation.output.start for address in start
                  if address.target is operation.output]  # fmt: skip
        assert places == [number // 2 * 24 * 16 + number % 2 * 16]
        words = dict(((t, o), v) for t, o, v in ours(operation))
        wanted = dict(((t, o), v) for t, o, v in vendors("rbl2", 5))
        for register in registers:
            place = (DPU.target + WRITE, register.offset)
            assert words[place] == wanted[place], register.title()


@pytest.mark.parametrize("width", [31, 47, 208])
def test_phases_that_begin_far_from_the_edge(context: RocketContext, width: int) -> None:
    """The kernel of a phase reaches from the edge to its first pixel: refused where it is long."""
    graph = graph_of(
        lambda b: b.output(
            b.resize_bilinear(image(b, (1, 1, width, 16), "u8"), (1, 11), half_pixel_centers=True)
        )
    )
    if width == 31:
        assert difference(context, graph) <= 1
    else:
        (reason,) = reasons(graph)
        assert "a phase begins with the first" in reason
