"""Draw docs/path.svg: the path of a model through the rooms of the code.

python tools/draw_path.py [FILE ...]        writes docs/path.svg, or the named files
"""

from __future__ import annotations

import sys

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

WHITE, BLUE, GREEN, ORANGE, GREY = "#ffffff", "#dbe9f6", "#dff0d8", "#fce8d0", "#eeeeee"

# (centre x, centre y, width, title, line below, colour)
BOXES = (
    (1.1, 4.0, 1.9, "model file", ".tflite, .ir, others", WHITE),
    (3.6, 4.0, 2.2, "frontend/", "reads it to a Graph", BLUE),
    (6.4, 4.0, 2.5, "compile/", "plan, programs: Artefact", BLUE),
    (9.5, 4.0, 2.4, "run/", "loads it: Model, queue", BLUE),
    (12.7, 4.0, 2.4, "driver: Context", "buffers, submits", GREEN),
    (16.2, 4.8, 2.9, "kernel → NPU", "/dev/accel, /dev/dri", ORANGE),
    (16.2, 3.2, 2.9, "fake kernel → simulator", "same requests, in process", ORANGE),
    (6.4, 2.1, 2.5, "driver: Device", "rules, lowering, packing", GREEN),
    (3.6, 2.1, 2.2, "ir/", "operations, passes", GREY),
    (9.5, 2.1, 2.4, "timing/, inspect/", "how long, what, why", GREY),
)
ARROWS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (4, 6))
BETWEEN = ((2, 7), (1, 8), (3, 9))
"""Boxes above each other, joined by a line: the upper one uses the lower one."""
HEIGHT = 0.95


def draw() -> Figure:
    """Return the figure."""
    figure = Figure(figsize=(13.6, 3.4))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, 17.8)
    axes.set_ylim(1.25, 5.6)
    axes.axis("off")
    for box in BOXES:
        _box(axes, *box)
    for start, end in ARROWS:
        (x0, y0, w0, *_), (x1, y1, w1, *_) = BOXES[start], BOXES[end]
        _line(axes, (x0 + w0 / 2 + 0.03, y0), (x1 - w1 / 2 - 0.03, y1), "-|>")
    for above, below in BETWEEN:
        (x0, y0, *_), (x1, y1, *_) = BOXES[above], BOXES[below]
        _line(axes, (x0, y0 - HEIGHT / 2 - 0.03), (x1, y1 + HEIGHT / 2 + 0.03), "<|-|>")
    _note(axes, 6.4, 1.42, "needs only the chip's description")
    _note(axes, 8.0, 4.68, ".teflon file, cache")
    _note(axes, 13.2, 3.05, "the driver cannot tell\nwhich of the two it has")
    return figure


def _box(axes: Axes, x: float, y: float, width: float, title: str, below: str, colour: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - HEIGHT / 2), width, HEIGHT, facecolor=colour,
            edgecolor="#444444", boxstyle="round,pad=0.02,rounding_size=0.12", linewidth=1.2,
        )
    )  # fmt: skip
    axes.text(x, y + 0.15, title, ha="center", va="center", fontsize=9.5, weight="bold")
    axes.text(x, y - 0.22, below, ha="center", va="center", fontsize=8, color="#333333")


def _line(axes: Axes, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
    arrow = {"arrowstyle": style, "color": "#444444", "linewidth": 1.3}
    axes.annotate("", end, start, arrowprops=arrow)


def _note(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x, y, text, ha="center", fontsize=8, style="italic")


def main(argv: list[str] | None = None) -> int:
    """Write the picture."""
    mpl.rcParams["svg.hashsalt"] = "teflon"  # the same picture makes the same file
    figure = draw()
    for path in (sys.argv[1:] if argv is None else argv) or ["docs/path.svg"]:
        metadata = {"Date": None} if path.endswith(".svg") else None
        figure.savefig(path, bbox_inches="tight", facecolor="white", metadata=metadata, dpi=110)
    return 0


if __name__ == "__main__":
    sys.exit(main())
