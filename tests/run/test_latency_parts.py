"""Stages cut into parts: which rows and channels a part reads and computes."""

from __future__ import annotations

import numpy as np

from teflon.ir import Graph
from teflon.ir.builder import Builder
from teflon.ir.ops import TransposeConv
from teflon.ir.types import Padding
from teflon.run.multicore.choose import separable
from teflon.run.multicore.parts import Channels, Piece, Rows, cut_channels, cut_rows
from teflon.run.multicore.rows import Span, Window
from tests.run.helpers import chained


def test_rows_that_a_window_needs() -> None:
    window = Window(reach=3, stride=2, above=1, most=2)
    assert window.input_rows(Span(0, 4), 16) == Span(0, 8)
    assert window.input_rows(Span(4, 8), 16) == Span(7, 16)
    assert window.padding(Span(7, 16), Span(4, 8)) == (0, 0)
    assert window.padding(Span(0, 8), Span(0, 4)) == (1, 0)
    assert window.padding(Span(8, 16), Span(4, 8)) == (1, 0), "one row of padding in its place"


def test_rows_of_a_transposed_convolution() -> None:
    """Kernel 4, stride 2, padding 1: an output row lies under two input rows."""
    b = Builder("up")
    x = b.input("x", "u8", (1, 8, 4, 16), 1 / 64, 3)
    weights = np.full((16, 4, 4, 16), 130, np.uint8)
    b.output(b.transpose_conv(x, weights, size=(16, 8), stride=2, padding=(1, 1, 1, 1)))
    first, second = cut_rows(b.build(), Rows((0.0, 0.5, 1.0))) or []
    ops = [part.graph.ops[0] for part in (first, second)]
    assert (first.inputs, second.inputs) == ((Piece(1, 0, 5),), (Piece(1, 3, 8),))
    assert [op.padding for op in ops if isinstance(op, TransposeConv)] == [
        Padding(1, 3, 1, 1), Padding(3, 1, 1, 1),
    ]  # fmt: skip


def residual() -> Graph:
    b = Builder("residual")
    x = b.input("x", "u8", (1, 12, 4, 16), 1 / 64, 3)
    y = b.conv2d(x, np.full((16, 3, 3, 16), 130, np.uint8))
    b.output(b.add(x, y))
    return b.build()


def test_a_map_that_is_read_in_two_ways_keeps_its_rows() -> None:
    """The addition wants as many rows as the convolution before it reads."""
    parts = cut_rows(residual(), Rows((0.0, 0.5, 1.0)))
    assert parts is not None
    first, second = parts
    assert [v.shape[1] for v in first.graph.inputs] == [7]
    assert [v.shape[1] for v in first.graph.outputs] == [7]
    assert first.outputs == (Piece(1, 0, 6),)
    assert second.inputs == (Piece(1, 5, 12),)
    assert second.outputs == (Piece(1, 6, 12, skip=1),)


def test_an_addition_stays_with_the_convolution_that_only_it_reads() -> None:
    graph = residual()
    assert not separable(graph, 1)
    assert separable(chained(2), 1)


def test_stages_that_cannot_be_cut() -> None:
    graph = chained(1, classifier=True)
    assert cut_rows(graph, Rows((0.0, 0.5, 1.0))) is None, "a fully connected layer has no rows"
    assert cut_rows(chained(1, height=2), Rows((0.0, 0.1, 0.9, 1.0))) is None, "a part is empty"
    assert cut_channels(chained(2), Channels((0, 16, 32))) is None, "the second wants them all"
    parts = cut_channels(chained(1), Channels((0, 16, 32)))
    assert parts is not None
    assert [p.graph.outputs[0].shape[-1] for p in parts] == [16, 16]
    assert sum(op.macs for p in parts for op in p.graph.ops) == chained(1).ops[0].macs
