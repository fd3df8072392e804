"""Dependencies between rows: which input rows an operation needs for some rows of its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from teflon.ir import ops as ir
from teflon.ir.graph import Op, Value

HEIGHT = 1  # the axis of rows
_MOST_PAD = 15
"""Rows of padding above a part's first window, at most; more if the model itself has more."""


@dataclass(frozen=True)
class Span:
    """Rows from `low` to before `high`."""

    low: int
    high: int

    def __len__(self) -> int:
        return self.high - self.low

    def hull(self, other: Span | None) -> Span:
        """Return the smallest span that contains both."""
        if other is None:
            return self
        return Span(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Window:
    """How output rows depend on input rows: row r reads `reach` rows from `r * stride - above` on.

    At most `most` of the rows outside a part may be padding.
    """

    reach: int = 1
    stride: int = 1
    above: int = 0
    most: int = 0

    def input_rows(self, out: Span, height: int) -> Span:
        """Return the rows of an input with `height` rows that the output rows `out` depend on."""
        first = out.low * self.stride - self.above
        last = self.end(out.high)
        low = min(max(first, 0), height - 1)
        return Span(low, max(min(last, height), low + 1))

    def end(self, high: int) -> int:
        """Return the end of the last window of the output rows before `high`."""
        return (high - 1) * self.stride - self.above + self.reach

    def padding(self, source: Span, out: Span) -> tuple[int, int]:
        """Return the rows of padding, above and below, with which input `source` gives `out`."""
        above = self.above - out.low * self.stride + source.low
        return above, max(0, self.end(out.high) - source.high)

    def settle_low(self, source: int, result: int) -> tuple[int, int]:
        """Return the rows at which input and result begin, moved up until they fit: no unused input
        row, not too much padding.
        """
        result = min(result, (source + self.above) // self.stride)
        return min(source, result * self.stride - self.above + self.most), result

    def settle_high(self, source: int, result: int) -> tuple[int, int]:
        """Return the rows at which input and result end, moved down until they fit: no room for a
        further window, not too much padding.
        """
        spare = source - self.stride + 1 - self.reach + self.above
        result = max(result, -(-spare // self.stride) + 1)
        return max(source, self.end(result) - self.most), result


@dataclass(frozen=True)
class Spread(Window):
    """The rows of a transposed convolution: input row i adds to `reach` output rows from
    `i * stride - above` on. `padding` is that of the forward convolution.
    """

    def input_rows(self, out: Span, height: int) -> Span:
        low = -(-(out.low + self.above - self.reach + 1) // self.stride)
        last = (out.high - 1 + self.above) // self.stride + 1
        low = min(max(low, 0), height - 1)
        return Span(low, max(min(last, height), low + 1))

    def end(self, high: int) -> int:
        """Return the end of the output rows that the input rows before `high` add to."""
        return (high - 1) * self.stride - self.above + self.reach

    def padding(self, source: Span, out: Span) -> tuple[int, int]:
        above = self.above + out.low - source.low * self.stride
        return above, max(0, self.end(source.high) - out.high)

    def settle_low(self, source: int, result: int) -> tuple[int, int]:
        """Every input row adds to a result row, and none of the padding is wider than a kernel."""
        result = min(result, max(self.end(source + 1) - 1, 0))
        return min(source, (result + self.above) // self.stride), result

    def settle_high(self, source: int, result: int) -> tuple[int, int]:
        """The last input row adds to a result row, and the result ends before a further one."""
        first = (source - 1) * self.stride - self.above  # what the last input row adds to
        result = max(result, first + 1)
        return max(source, (result - 1 + self.above) // self.stride + 1), result


_SAME = Window()
_ALIKE = (
    ir.Relu, ir.Relu6, ir.ReluN1To1, ir.HardSwish, ir.LeakyRelu, ir.Logistic, ir.Tanh, ir.Abs,
    ir.Quantize, ir.Dequantize, ir.Softmax,
)  # fmt: skip
_BINARY = (ir.Add, ir.Sub, ir.Mul, ir.Maximum, ir.Minimum)


def windows(op: Op) -> Mapping[Value, Window] | None:
    """Return how an operation's result rows depend on its inputs; None if it cannot be cut."""
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
        case ir.TransposeConv():
            loose = not op.weights.is_constant or (op.bias is not None and op.bias.data is None)
            reach, stride = op.weights.shape[1], op.stride[0]
            return None if loose else {op.input: Spread(reach, stride, op.padding.top)}
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
    """Return the windows of two operands; None if their rows are not the result's.

    A computed operand must have as many rows as the result, a constant must have one row.
    """
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
"""(input, result, how the result's rows depend on the input's), in the order of the operations."""


def links(ops: Iterable[Op]) -> Links | None:
    """Return the links of some operations; None if one of them cannot be cut into rows."""
    found = []
    for op in ops:
        read = windows(op)
        if read is None:
            return None
        found += [(value, op.results[0], window) for value, window in read.items()]
    return found


def spans(stage_links: Links, wanted: Mapping[Value, Span]) -> dict[Value, Span]:
    """Return for each value the rows from which the wanted rows can be computed.

    Values that several operations read may get more rows than necessary. The additional rows are
    computed with padding instead of their neighbours; they are wrong, and nothing uses them.
    """
    need = dict(wanted)
    for source, result, window in reversed(stage_links):
        if result in need:
            rows = window.input_rows(need[result], source.shape[HEIGHT])
            need[source] = rows.hull(need.get(source))
    low = {value: span.low for value, span in need.items()}
    high = {value: span.high for value, span in need.items()}
    _settle(stage_links, low, lambda window, *rows: window.settle_low(*rows))
    _settle(stage_links, high, lambda window, *rows: window.settle_high(*rows))
    return {value: Span(low[value], high[value]) for value in need}


def _settle(
    stage_links: Links,
    rows: dict[Value, int],
    step: Callable[[Window, int, int], tuple[int, int]],
) -> None:
    """Move one end of all spans until each operation can compute its result from its inputs.

    The ends move outwards only, and at most to the end of the image, which has the model's own
    padding.
    """
    changed = True
    while changed:
        changed = False
        for source, result, window in stage_links:
            if result not in rows:
                continue
            ends = step(window, rows[source], rows[result])
            found = min(ends[0], source.shape[HEIGHT]), min(ends[1], result.shape[HEIGHT])
            if found != (rows[source], rows[result]):
                rows[source], rows[result] = found
                changed = True
