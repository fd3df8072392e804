"""Draw docs/path.svg: the path of a model through the code.

python tools/draw_path.py [FILE ...]        writes docs/path.svg, or the named files
"""

from __future__ import annotations

import sys

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

WHITE, BLUE, GREEN, ORANGE = "#ffffff", "#dbe9f6", "#dff0d8", "#fce8d0"

# (centre x, centre y, width, title, line below, colour)
BOXES = (
    (1.0, 3.0, 1.7, ".tflite file", "what you have", WHITE),
    (3.1, 3.0, 1.7, "frontend", "reads, checks", BLUE),
    (5.2, 3.0, 1.7, "graph", "typed, quantised", BLUE),
    (7.4, 3.0, 1.9, "partitions", "who runs what, why", BLUE),
    (9.9, 3.8, 2.1, "driver: rocket", "compiles a program", GREEN),
    (9.9, 2.2, 2.1, "driver: cpu", "the reference", GREEN),
    (12.4, 3.8, 1.9, "context", "buffers, submits", GREEN),
    (15.6, 4.6, 3.0, "kernel → RK3588", "/dev/accel/accel0", ORANGE),
    (15.6, 3.0, 3.0, "fake kernel → simulator", "same requests, in process", ORANGE),
)
ARROWS = ((0, 1), (1, 2), (2, 3), (3, 4), (3, 5), (4, 6), (6, 7), (6, 8))
HEIGHT = 0.95


def draw() -> Figure:
    """Return the figure."""
    figure = Figure(figsize=(13.2, 2.9))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, 17.2)
    axes.set_ylim(1.55, 5.3)
    axes.axis("off")
    for x, y, width, title, below, colour in BOXES:
        axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - HEIGHT / 2), width, HEIGHT, facecolor=colour,
                edgecolor="#444444", boxstyle="round,pad=0.02,rounding_size=0.12", linewidth=1.2,
            )
        )  # fmt: skip
        axes.text(x, y + 0.15, title, ha="center", va="center", fontsize=9.5, weight="bold")
        axes.text(x, y - 0.22, below, ha="center", va="center", fontsize=8, color="#333333")
    for start, end in ARROWS:
        (x0, y0, w0, *_), (x1, y1, w1, *_) = BOXES[start], BOXES[end]
        axes.annotate(
            "", (x1 - w1 / 2 - 0.03, y1), (x0 + w0 / 2 + 0.03, y0),
            arrowprops={"arrowstyle": "-|>", "color": "#444444", "linewidth": 1.3},
        )  # fmt: skip
    axes.text(
        9.9, 4.45, "needs only the chip's description", ha="center", fontsize=8, style="italic"
    )
    axes.text(
        12.6, 2.6, "the driver cannot tell\nwhich of the two it has", ha="center", fontsize=8,
        style="italic",
    )  # fmt: skip
    return figure


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
