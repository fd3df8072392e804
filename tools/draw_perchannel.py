"""Draw docs/per-channel.svg: how a layer with a scale for each channel becomes jobs.

python tools/draw_perchannel.py [FILE ...]        writes docs/per-channel.svg, or the named files
"""

from __future__ import annotations

import sys

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

SCALES = (3.1, 0.7, 1.5, 2.8, 0.9, 3.3, 1.7, 0.6, 1.4, 3.0, 0.8, 1.6)
"""Weight scales of twelve output channels, in the order of the file."""
GROUPS = (slice(0, 4), slice(4, 8), slice(8, 12))
COLOURS = ("#8fbfe0", "#a8d5a2", "#f6c48f")
ORDER = np.argsort(SCALES, kind="stable")


def draw() -> Figure:
    """Return the figure."""
    figure = Figure(figsize=(13.6, 4.4))
    places = ((0.04, 0.2), (0.275, 0.2), (0.52, 0.16), (0.735, 0.25))
    file, sorted_, jobs, user = (
        figure.add_axes((left, 0.2, width, 0.62)) for left, width in places
    )
    _bars(file, np.arange(len(SCALES)), "scales of the output channels,\nas the file has them")
    _bars(sorted_, ORDER, "sorted, cut into groups:\none scale and one job for each")
    for part in GROUPS:
        largest = max(SCALES[n] for n in ORDER[part])
        line = (part.start - 0.5, part.stop - 0.5)
        sorted_.plot(line, (largest, largest), color="#333333", linewidth=2)
    sorted_.text(0, 3.2, "— the scale of a group", fontsize=8)
    _planes(jobs)
    _matrix(user)
    for left in (0.246, 0.491, 0.69):
        figure.text(left + 0.012, 0.5, "→", fontsize=22, ha="center", va="center")
    notes = (
        (0.14, "each weight: w · scale"),
        (
            0.375,
            "weights are rounded again, w' · scale of the group;\nerrors of a kernel add up to 0",
        ),
        (0.6, "planes of a group lie\nside by side in memory"),
        (0.86, "its weights are permuted at compile time:\nnothing is copied on the chip"),
    )
    for x, text in notes:
        figure.text(x, 0.07, text, fontsize=8.5, ha="center", va="center", style="italic")
    return figure


def _colour(channel: int) -> str:
    rank = int(np.flatnonzero(channel == ORDER)[0])
    return next(c for part, c in zip(GROUPS, COLOURS, strict=True) if rank < part.stop)


def _bars(axes: Axes, order: np.ndarray, title: str) -> None:
    heights = [SCALES[n] for n in order]
    axes.bar(range(len(order)), heights, color=[_colour(n) for n in order], edgecolor="#444444")
    axes.set_xticks(range(len(order)), [str(n) for n in order], fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(0, 3.8)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _planes(axes: Axes) -> None:
    """Draw the planes of the result as they lie in memory, and the jobs that write them."""
    axes.set_xlim(0, 3.2)
    axes.set_ylim(len(SCALES), 0)
    axes.axis("off")
    axes.set_title("the result in memory", fontsize=10)
    for place, channel in enumerate(ORDER):
        axes.add_patch(
            Rectangle((1.3, place), 1.5, 1, facecolor=_colour(channel), edgecolor="#444444")
        )
        axes.text(2.05, place + 0.55, f"plane of {channel}", ha="center", va="center", fontsize=7.5)
    for number, part in enumerate(GROUPS):
        middle = (part.start + part.stop) / 2
        axes.text(0.5, middle, f"job {number}", ha="center", va="center", fontsize=9, weight="bold")
        arrow = {"arrowstyle": "-|>", "color": "#444444"}
        axes.annotate("", (1.27, middle), (0.88, middle), arrowprops=arrow)


def _matrix(axes: Axes) -> None:
    """Draw the weights of the layer that reads the result, with their columns permuted."""
    axes.set_xlim(-0.5, len(SCALES) - 0.5)
    axes.set_ylim(5.5, -0.5)
    axes.set_title("the layer that reads it:\nweights by input channel", fontsize=10)
    for row in range(6):
        for place, channel in enumerate(ORDER):
            axes.add_patch(
                Rectangle(
                    (place - 0.5, row - 0.5), 1, 1, facecolor=_colour(channel), edgecolor="white"
                )
            )
    axes.set_xticks(range(len(ORDER)), [str(n) for n in ORDER], fontsize=8)
    axes.set_yticks([])
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)


def main(argv: list[str] | None = None) -> int:
    """Write the picture."""
    mpl.rcParams["svg.hashsalt"] = "teflon"  # the same picture makes the same file
    figure = draw()
    for path in (sys.argv[1:] if argv is None else argv) or ["docs/per-channel.svg"]:
        metadata = {"Date": None} if path.endswith(".svg") else None
        figure.savefig(path, bbox_inches="tight", facecolor="white", metadata=metadata, dpi=110)
    return 0


if __name__ == "__main__":
    sys.exit(main())
