# Ref: docs/hardware/etnaviv.md sections 3.2, 5.1, 5.2 and 8.3
"""What moving takes: boxes in the fields of jobs, parts of tensors, channels in any order."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir.builder import Builder
from teflon.ir.graph import Value
from teflon.pipe import Context
from teflon_etnaviv import teflon_driver
from teflon_etnaviv.chips import chip
from teflon_etnaviv.exact.grouping.kernels import Order
from teflon_etnaviv.exact.grouping.modes import MODES
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.exact.rules import RULES
from teflon_etnaviv.exact.views import View
from teflon_etnaviv.tensors import Layout, Tensor
from teflon_etnaviv.tp.pieces import Piece, shared
from tests.etnaviv.grid import opened
from tests.etnaviv.moved import difference, graph_of, image, kinds, through_planes
from tests.etnaviv.parity import CHIPS

few = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module", params=CHIPS)
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    with opened(request.param) as found:
        yield found


def moved(pieces: list[Piece]) -> dict[int, int]:
    """Where each byte of the input comes to lie, element by element."""
    found: dict[int, int] = {}
    for piece in pieces:
        read, written = np.array([piece.read]), np.array([piece.written])
        for size, step, other in piece.axes:
            numbers = np.arange(size)
            read = (read[:, None] + numbers * step).reshape(-1)
            written = (written[:, None] + numbers * other).reshape(-1)
        assert not set(read.tolist()) & set(found)
        found.update(zip(read.tolist(), written.tolist(), strict=True))
    return found


@few
@given(st.data(), st.lists(st.integers(1, 5), min_size=1, max_size=7), st.integers(1, 4))
def test_pieces_copy_each_element_once(data: st.DataObject, sizes: list[int], jobs: int) -> None:
    perm = data.draw(st.permutations(range(len(sizes))))
    whole = np.arange(prod(sizes)).reshape(sizes)
    box = [(n - 1) // 2 + 1 for n in sizes]
    flipped = [data.draw(st.booleans()) for _ in sizes]
    begin = tuple(n - 1 if flip else 0 for n, flip in zip(sizes, flipped, strict=True))
    steps = tuple(-2 if flip else 2 for flip in flipped)
    taken = View.of(tuple(sizes), Layout.ROWS).cut(begin, tuple(box), steps).permuted(perm)
    pieces = taken.pieces(View.of(taken.sizes, Layout.ROWS))
    for piece in pieces:
        assert piece.x == 0 or piece.axes[0].read == 1
    slices = tuple(slice(None, None, -2 if flip else 2) for flip in flipped)
    wanted = whole[slices].transpose(perm).reshape(-1)
    places = moved(shared(pieces, jobs))
    assert [read for read, _ in sorted(places.items(), key=lambda item: item[1])] == wanted.tolist()
    assert sorted(places.values()) == list(range(len(wanted)))


@pytest.mark.parametrize(
    "sizes", [(200_000,), (40_009,), (3, 70_001), (100_003, 2), (2, 33_000, 7)]
)
def test_what_no_field_can_count_is_cut(sizes: tuple[int, ...]) -> None:
    source = View.of(sizes, Layout.ROWS)
    for perm in (range(len(sizes)), reversed(range(len(sizes)))):
        taken = source.permuted(list(perm))
        pieces = taken.pieces(View.of(taken.sizes, Layout.ROWS))
        for piece in pieces:
            columns = piece.axes[piece.x : piece.x + piece.y]
            assert prod(axis.size for axis in piece.axes[: piece.x]) <= 32768
            assert prod(axis.size for axis in columns) <= 32768
            assert all(axis.read <= 65535 for axis in columns[:1])
        assert len(moved(pieces)) == prod(sizes)


@pytest.mark.parametrize("shape", [(1, 3, 40_009, 2), (1, 1, 5, 70_000), (1, 40_000, 3, 2)])
def test_large_maps(context: Context, shape: tuple[int, ...]) -> None:
    def make(b: Builder) -> None:
        x = image(b, shape)
        b.output(b.transpose(x, (0, 3, 1, 2)), b.transpose(x, (0, 2, 1, 3)))
        b.output(b.slice(x, begin=(0, 0, 1, 0), size=(1, shape[1], shape[2] - 2, shape[3])))

    assert difference(context, graph_of(make)) == 0


def test_what_lies_in_its_place_is_not_copied() -> None:
    """Ref: docs/hardware/etnaviv.md section 6.3 (operations that are none)."""

    def joined(b: Builder) -> None:
        values = [through_planes(b, image(b, (1, 8, 8, 4), name=name)) for name in "xy"]
        z = b.concatenation(values, axis=3)
        one, other = b.split(through_planes(b, z), 2, axis=3)
        b.output(through_planes(b, b.reshape(one, (1, 4, 16, 4))), b.transpose(other, (0, 3, 1, 2)))

    assert kinds(graph_of(joined)) == [
        "transpose", "NN", "transpose", "NN", "NN", "NN", "detranspose"
    ]  # fmt: skip

    def rows(b: Builder) -> None:
        x = image(b, (1, 8, 8, 4))
        b.output(b.slice(x, begin=(0, 2, 0, 0), size=(1, 3, 8, 4)), *b.unpack(x, axis=1))

    assert kinds(graph_of(rows)) == []


@dataclass
class Watched(Lowering):
    """A partition being lowered; in `sorted` what had to be brought into order."""

    sorted: list[str] = field(default_factory=list)

    def reordered(self, name: str, source: Tensor, planes: Order, target: Tensor) -> None:
        self.sorted.append(name)
        super().reordered(name, source, planes, target)


def per_channel(b: Builder, x: Value, channels: int, name: str) -> Value:
    """A convolution whose channels have scales of several octaves, so that it may sort them."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    shape = (channels, 1, 1, x.shape[3])
    scales = tuple(float(s) for s in np.exp2(random.uniform(-9, -4, channels)))
    data = random.integers(-127, 128, shape).astype(np.int8)
    return b.conv2d(x, data, weight_scale=scales, scale=0.25, zero_point=-5, name=name)


@pytest.mark.parametrize("kind", ["join", "resize", "interpolate", "pad", "cut", "dense"])
def test_channels_keep_the_order_in_which_they_lie(context: Context, kind: str) -> None:
    def make(b: Builder) -> None:
        x = b.input("x", "i8", (1, 12, 12, 16), 0.05, 3)
        y = per_channel(b, x, 64, "one")
        if kind == "join":
            y = b.concatenation([y, per_channel(b, x, 32, "other")], axis=3)
        elif kind == "resize":
            y = b.resize_nearest_neighbor(y, (24, 24))
        elif kind == "interpolate":
            y = b.resize_bilinear(y, (24, 24), half_pixel_centers=True)
        elif kind == "pad":
            y = b.pad(y, (0, 1, 2, 0), (0, 0, 1, 0))
        elif kind == "cut":
            y = b.slice(y, begin=(0, 2, 3, 0), size=(1, 6, 5, 64))
        elif kind == "dense":
            y = b.slice(y, begin=(0, 0, 0, 0), size=(1, 3, 3, 64))
            weights = np.random.default_rng(1).integers(-127, 128, (10, 576)).astype(np.int8)
            b.output(b.fully_connected(y, weights, weight_scale=0.001, scale=0.3, zero_point=1))
            return
        b.output(b.conv2d(y, identity(y.shape[3]), weight_scale=1.0, scale=0.25, zero_point=-5))

    graph = graph_of(make)
    with teflon_driver().simulate(context.device.chip, {"perchannel": "exact"}) as exact:
        assert difference(exact, graph) <= (2 if kind == "interpolate" else 1)  # one for each step
    state = Watched(graph, chip(context.device.chip), mode=MODES["exact"])
    state.run(RULES)
    assert state.shuffled
    assert not state.sorted


def identity(channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return np.eye(channels, dtype=np.int8).reshape(channels, 1, 1, channels)


def test_a_dense_layer_reads_planes(context: Context) -> None:
    def make(b: Builder) -> None:
        x = through_planes(b, image(b, (1, 7, 5, 6)))
        weights = np.random.default_rng(1).integers(-127, 128, (10, 210)).astype(np.int8)
        b.output(b.fully_connected(x, weights, weight_scale=0.01, scale=2.0, zero_point=1))

    graph = graph_of(make)
    assert kinds(graph) == ["transpose", "NN", "NN"]
    assert difference(context, graph) <= 1
