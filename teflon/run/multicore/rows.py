"""Which rows of its inputs some rows of an operation's result need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from teflon.ir import ops as ir
from teflon.ir.graph import Op, Value

HEIGHT = 1  # the axis of rows
_MOST_PAD = 15
"""Rows of padding that a part's first window may begin with, unless the model has more."""


@dataclass(frozen=True)
class Span:
    """Rows from `low` to before `high`."""

    low: int
    high: int

    def __len__(self) -> int:
        return self.high - self.low

    def hull(self, other: Span | None) -> Span:
        """Return the rows from the first to the last of both."""
        if other is None:
            return self
        return Span(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Window:
    """How output rows read input rows: row r those from `r * stride - above` on, `reach` of them;
    `most` rows outside a part may be padding.
    """

    reach: int = 1
    stride: int = 1
    above: int = 0
    most: int = 0

    def needed(self, out: Span, height: int) -> Span:
        """Return the rows inside an input of so many rows that some output rows are made from."""
        first = out.low * self.stride - self.above
        last = self.end(out.high)
        low = min(max(first, 0), height - 1)
        return Span(low, max(min(last, height), low + 1))

    def end(self, high: int) -> int:
        """Return where the last window of output rows before `high` ends."""
        return (high - 1) * self.stride - self.above + self.reach

    def padding(self, source: Span, out: Span) -> tuple[int, int]:
        """Return the rows of padding above and below with which `source` makes `out`."""
        above = self.above - out.low * self.stride + source.low
        return above, max(0, self.end(out.high) - source.high)


_SAME = Window()
_ALIKE = (
    ir.Relu, ir.Relu6, ir.ReluN1To1, ir.HardSwish, ir.LeakyRelu, ir.Logistic, ir.Tanh, ir.Abs,
    ir.Quantize, ir.Dequantize, ir.Softmax,
)  # fmt: skip
_BINARY = (ir.Add, ir.Sub, ir.Mul, ir.Maximum, ir.Minimum)


def windows(op: Op) -> Mapping[Value, Window] | None:
    """Return how an operation reads its inputs; None where its result has no rows of its own."""
    if any(len(v.shape) != 4 or v.shape[HEIGHT] < 1 for v in op.results):
        return None
    found = _windows(op)
    if found is None or any(len(v.shape) != 4 or v.is_constant for v in found):
        return None
    return found


def _windows(op: Op) -> Mapping[Value, Window] | None:
    match op:
        case ir.Conv2D() | ir.DepthwiseConv2D():
            reach = (op.weights.shape[1] - 1) * op.dilation[0] + 1
            pads = op.padding.top, op.padding.bottom
            loose = not op.weights.is_constant or (op.bias is not None and op.bias.data is None)
            return None if loose else {op.input: _window(reach, op.stride[0], *pads)}
        case ir.AveragePool2D() | ir.MaxPool2D():
            pads = op.padding.top, op.padding.bottom
            return {op.input: _window(op.kernel[0], op.stride[0], *pads)}
        case ir.Pad():
            above, below = op.before[HEIGHT], op.after[HEIGHT]
            return {op.input: Window(1, 1, above, max(above, below))}
        case ir.Concatenation():
            return dict.fromkeys(op.inputs, _SAME) if op.axis > HEIGHT else None
        case _ if isinstance(op, _BINARY):
            return _operands(op.a, op.b, op.output)
        case _ if isinstance(op, _ALIKE):
            return {op.input: _SAME}
    return None


def _window(reach: int, stride: int, above: int, below: int) -> Window:
    return Window(reach, stride, above, max(above, below, min(reach - 1, _MOST_PAD)))


def _operands(a: Value, b: Value, output: Value) -> Mapping[Value, Window] | None:
    """Operands that are computed must have the result's rows, constants one row for all."""
    found = {}
    for value in (a, b):
        if value.is_constant:
            if len(value.shape) >= 3 and value.shape[-3] != 1:
                return None
        elif value.shape[:2] != output.shape[:2]:
            return None
        else:
            found[value] = _SAME
    return found or None


Links = Sequence[tuple[Value, Value, Window]]
"""(input, result, how the result's rows read the input's), in the order of the operations."""


def links(ops: Iterable[Op]) -> Links | None:
    """Return all links of some operations, None where one of them has no rows."""
    found = []
    for op in ops:
        read = windows(op)
        if read is None:
            return None
        found += [(value, op.results[0], window) for value, window in read.items()]
    return found


def spans(linked: Links, wanted: Mapping[Value, Span]) -> dict[Value, Span]:
    """Return the rows of every value from which the wanted ones can be computed.

    More rows than needed where one value is read in different ways: what is computed beyond the
    needed ones, with padding in place of neighbours, is wrong and never used.
    """
    need = dict(wanted)
    for source, result, window in reversed(linked):
        if result in need:
            rows = window.needed(need[result], source.shape[HEIGHT])
            need[source] = rows.hull(need.get(source))
    low = {value: span.low for value, span in need.items()}
    high = {value: span.high for value, span in need.items()}
    _settle(linked, low, _lower)
    _settle(linked, high, _raise)
    return {value: Span(low[value], high[value]) for value in need}


def _settle(
    linked: Links,
    rows: dict[Value, int],
    step: Callable[[Window, int, int], tuple[int, int]],
) -> None:
    """Change ends until every operation can make its result's rows from its inputs' rows.

    Both ends only move outwards and stop at the image's, where the model's own padding holds.
    """
    changed = True
    while changed:
        changed = False
        for source, result, window in linked:
            if result not in rows:
                continue
            found = step(window, rows[source], rows[result])
            if found != (rows[source], rows[result]):
                rows[source], rows[result] = found
                changed = True


def _lower(window: Window, source: int, result: int) -> tuple[int, int]:
    """No input row above the first window, and not too much padding."""
    result = min(result, (source + window.above) // window.stride)
    return min(source, result * window.stride - window.above + window.most), result


def _raise(window: Window, source: int, result: int) -> tuple[int, int]:
    """No room for another window below the last one, and not too much padding."""
    spare = source - window.stride + 1 - window.reach + window.above
    result = max(result, -(-spare // window.stride) + 1)
    return max(source, window.end(result) - window.most), result
