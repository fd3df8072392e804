"""Charts as SVG or PNG with a legend: stacked horizontal bars, or spans of time on lines.

PNG needs Pillow, SVG needs nothing. The same numbers always give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d", "#72b7b2", "#e45756")
_INK, _GRID, _PAPER = "#222222", "#dddddd", "#ffffff"
_LABELS, _PLOT, _RIGHT = 300, 600, 70
_TOP, _STEP, _BAR, _BOTTOM = 64, 15, 11, 30
_TEXT = 11
_LONGEST = 46  # characters of a label
_LINE, _SPAN, _NAMES = 34, 26, 110  # of a Gantt chart: distance of lines, height, width of names


@dataclass(frozen=True)
class Bars:
    """A bar chart: rows of (label, value of each part); values are not negative."""

    title: str
    unit: str
    rows: Sequence[tuple[str, Mapping[str, float]]]

    @property
    def parts(self) -> list[str]:
        """Names of the parts that have a value in any row, in order of appearance."""
        names = dict.fromkeys(name for _, values in self.rows for name in values)
        return [n for n in names if any(values.get(n, 0.0) for _, values in self.rows)]


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True)
class _Text:
    x: float
    y: float
    text: str
    anchor: str = "start"
    size: int = _TEXT


_Shape = _Box | _Text


@dataclass(frozen=True)
class Gantt:
    """A Gantt chart: lines of (label, spans); a span is (start, end, part), parts have colours."""

    title: str
    unit: str
    lines: Sequence[tuple[str, Sequence[tuple[float, float, str]]]]

    @property
    def parts(self) -> list[str]:
        """Names of the parts, sorted."""
        return sorted({part for _, spans in self.lines for _, _, part in spans})


Chart = Bars | Gantt


def svg(chart: Chart) -> bytes:
    """Return the chart as SVG."""
    width, height = _size(chart)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="{_PAPER}"/>',
    ]
    for shape in _shapes(chart):
        if isinstance(shape, _Box):
            lines.append(
                f'<rect x="{shape.x:.2f}" y="{shape.y:.2f}" width="{shape.width:.2f}"'
                f' height="{shape.height:.2f}" fill="{shape.colour}"/>'
            )
        else:
            lines.append(
                f'<text x="{shape.x:.2f}" y="{shape.y:.2f}" font-size="{shape.size}"'
                f' text-anchor="{shape.anchor}" fill="{_INK}">{escape(shape.text)}</text>'
            )
    return "\n".join([*lines, "</svg>", ""]).encode()


def png(chart: Chart) -> bytes:
    """Return the chart as PNG."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", _size(chart), _PAPER)
    draw = ImageDraw.Draw(image)
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for shape in _shapes(chart):
        if isinstance(shape, _Box):
            right, bottom = shape.x + shape.width, shape.y + shape.height
            draw.rectangle((shape.x, shape.y, right, bottom - 1), fill=shape.colour)
        else:
            font = ImageFont.load_default(shape.size)
            place = (shape.x, shape.y)
            draw.text(place, shape.text, fill=_INK, font=font, anchor=anchors[shape.anchor])
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


FORMATS: Mapping[str, Callable[[Chart], bytes]] = {".svg": svg, ".png": png}
"""File name suffix -> the function that draws this format."""


def _size(chart: Chart) -> tuple[int, int]:
    if isinstance(chart, Gantt):
        return _NAMES + 2 * _PLOT + _RIGHT, _TOP + _LINE * len(chart.lines) + _BOTTOM
    return _LABELS + _PLOT + _RIGHT, _TOP + _STEP * len(chart.rows) + _BOTTOM


def _shapes(chart: Chart) -> Iterator[_Shape]:
    yield _Text(10, 20, chart.title, size=14)
    yield from _legend(chart.parts)
    yield from _spans(chart) if isinstance(chart, Gantt) else _bars(chart)


def _axis(left: float, bottom: float, scale: float, tick: float, count: int) -> Iterator[_Shape]:
    """Yield grid lines at round values, and their labels."""
    for number in range(count + 1):
        x = left + number * tick * scale
        yield _Box(x, _TOP - 4, 1, bottom - _TOP + 8, _GRID)
        yield _Text(x, bottom + 18, f"{number * tick:g}", "middle")


def _spans(chart: Gantt) -> Iterator[_Shape]:
    largest = max((end for _, spans in chart.lines for _, end, _ in spans), default=0.0)
    tick = _tick(largest)
    scale = 2 * _PLOT / (largest or tick)
    bottom = _TOP + _LINE * len(chart.lines)
    yield from _axis(_NAMES, bottom, scale, tick, int(largest / tick))
    yield _Text(_NAMES + 2 * _PLOT + 30, bottom + 18, chart.unit)
    places = {part: number for number, part in enumerate(chart.parts)}
    for line, (label, spans) in enumerate(chart.lines):
        y = _TOP + line * _LINE
        yield _Text(_NAMES - 6, y + _SPAN // 2 + 4, label, "end")
        for start, end, part in spans:
            colour = COLOURS[places[part] % len(COLOURS)]
            width = max((end - start) * scale - _GAP, _GAP)
            yield _Box(_NAMES + start * scale, y, width, _SPAN, colour)


_GAP = 0.5  # separates neighbours of the same colour


def _bars(bars: Bars) -> Iterator[_Shape]:
    largest = max((sum(values.values()) for _, values in bars.rows), default=0.0)
    tick = _tick(largest)
    scale = _PLOT / (math.ceil(largest / tick) * tick or tick)
    bottom = _TOP + _STEP * len(bars.rows)
    yield from _axis(_LABELS, bottom, scale, tick, math.ceil(largest / tick))
    yield _Text(_LABELS + _PLOT + 30, bottom + 18, bars.unit)
    for row, (label, values) in enumerate(bars.rows):
        yield from _bar(_TOP + row * _STEP, label, values, bars.parts, scale)


def _legend(parts: Sequence[str]) -> Iterator[_Shape]:
    for number, name in enumerate(parts):
        x = 10 + 110 * number
        yield _Box(x, 34, 12, 12, COLOURS[number % len(COLOURS)])
        yield _Text(x + 18, 44, name)


def _bar(
    y: float, label: str, values: Mapping[str, float], parts: Sequence[str], scale: float
) -> Iterator[_Shape]:
    shown = label if len(label) <= _LONGEST else "…" + label[1 - _LONGEST :]
    yield _Text(_LABELS - 6, y + _BAR - 2, shown, "end")
    x = float(_LABELS)
    for number, name in enumerate(parts):
        width = values.get(name, 0.0) * scale
        if width > 0:
            yield _Box(x, y, width, _BAR, COLOURS[number % len(COLOURS)])
        x += width
    yield _Text(x + 4, y + _BAR - 2, f"{sum(values.values()):.3g}")


def _tick(largest: float) -> float:
    """Return a round distance of grid lines that gives about five lines."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest / 5))
    return next(step * power for step in (1, 2, 5, 10) if step * power * 5 >= largest)
